"""Two finished studies against each other, on the test rows that both have."""
