"""The graders, one file per kind."""
