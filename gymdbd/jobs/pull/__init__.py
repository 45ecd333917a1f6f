"""A pull: bring a remote snapshot here, prove it equal, swap it in."""
