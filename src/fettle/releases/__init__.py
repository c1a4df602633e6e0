"""Releases: contenders that were let through the gates, and how a name finds the one in force."""
