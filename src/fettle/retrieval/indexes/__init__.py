"""One file per place in which passages are searched."""
