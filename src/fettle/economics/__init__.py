"""What answers take: tokens, seconds, later money."""
