"""The folder of backups: what lies there, what is known of each, which ones stay."""
