"""The folder of backups: its content, the facts about each backup, and retention."""
