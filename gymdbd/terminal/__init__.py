"""The terminal: what a person types means and what it prints; nothing of what is done."""
