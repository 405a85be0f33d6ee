"""Results as figures and self-contained pages. No torch, no network."""
