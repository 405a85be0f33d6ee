"""One pass over an image set: a task makes a part of every batch, and a result of all parts."""
