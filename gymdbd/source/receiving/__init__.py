"""Receiving a database on the other machine: this travels only if one is to be put there."""
