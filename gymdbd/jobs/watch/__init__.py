"""A watch: whether another machine still comes for its pulls; it is looked at, and never runs."""
