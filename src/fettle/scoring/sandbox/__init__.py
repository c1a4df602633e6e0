"""Code of users, run where it can harm nothing: no network, no files, no other processes, bounded in everything."""
