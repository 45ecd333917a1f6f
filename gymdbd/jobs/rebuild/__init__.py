"""A rebuild: put a database where it was on a machine that has been set up anew."""
