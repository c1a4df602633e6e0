"""Work that outlives the process that does it: a queue over the store, workers, and what each kind of job does."""
