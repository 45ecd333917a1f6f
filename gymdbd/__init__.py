"""gymdbd keeps a live SQLite database safe: nightly verified backups and proven replicas."""

__version__ = "0.1.0"
