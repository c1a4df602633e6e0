"""The OpenAI-compatible API, one file per resource."""
