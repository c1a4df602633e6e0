"""One file per way of searching passages."""
