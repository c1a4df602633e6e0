"""What retrieval and nearest-neighbour prompts search with."""
