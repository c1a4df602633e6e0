"""How sure we may be: intervals, paired tests, power, all by clusters of examples that belong together."""
