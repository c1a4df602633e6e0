"""Bytes to examples: read, convert, check, mend, find duplicates, recognise the task, split."""
