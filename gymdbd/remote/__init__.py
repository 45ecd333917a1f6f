"""The other machine: connecting to it, and fetching a snapshot."""
