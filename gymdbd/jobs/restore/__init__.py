"""A restore: put a backup back, after saving what it overwrites."""
