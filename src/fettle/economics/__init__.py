"""What answers take and cost: tokens, seconds, prices with their dates, and when tuning has paid for itself."""
