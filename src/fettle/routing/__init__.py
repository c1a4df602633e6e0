"""Which requests the small model answers itself, and which go to the large one."""
