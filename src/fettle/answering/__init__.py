"""Prompts to answers, through one interface for every engine."""
