"""One file per theme of what can be wrong with examples that could be read; `fettle.examples.check` runs them all."""
