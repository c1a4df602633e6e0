"""One file per shape of a row; each is a `fettle.examples.row_format.RowFormat`."""
