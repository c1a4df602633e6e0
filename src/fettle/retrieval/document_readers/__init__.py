"""One file per format of documents."""
