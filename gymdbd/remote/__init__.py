"""The other machine: reaching it, and bringing a snapshot from there."""
