"""What to try before a study, and what to do after one; every reason rests on something measured or said."""
