"""One file per way of looking at found passages once more."""
