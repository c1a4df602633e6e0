"""Graders: from an example and an answer to a score in [0, 1], or to "could not be scored"."""
