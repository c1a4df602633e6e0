"""Examples to tokens with loss weights: only the renderer here turns a conversation into tokens."""
