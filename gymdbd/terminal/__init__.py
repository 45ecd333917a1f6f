"""The terminal: arguments, the databases they name, and output; not the work itself."""
