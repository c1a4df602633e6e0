"""What a release is held against before it may answer users: a file for each gate."""
