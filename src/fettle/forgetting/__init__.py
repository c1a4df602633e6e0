"""What a tuned model has forgotten of what its base model could do, whether that is too much, and what prevents it."""
