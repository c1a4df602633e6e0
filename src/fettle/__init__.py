"""Should we fine-tune, and is the result really better? Evidence first, then the tuned model."""
