"""Measurements: every figure of the documents about speed comes from here."""
