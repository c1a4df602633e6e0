"""Models that compare the answers of two contenders, and how far they can be trusted."""
