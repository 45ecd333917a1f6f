"""A verification: read backups again, and repair damaged ones from another archive."""
