"""One file per way of answering an example."""
