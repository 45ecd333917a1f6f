"""All knowledge of SQLite and its files. Standard library only, Python 3.9 and newer."""
