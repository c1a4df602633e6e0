"""One file per way rows lie in a file; each is a `fettle.examples.reader.Reader`."""
