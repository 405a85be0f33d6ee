"""The compiler of the backward pass: an autograd graph as linear steps for many classes."""
