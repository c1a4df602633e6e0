"""Names to weights: resolving, loading, adapters."""
