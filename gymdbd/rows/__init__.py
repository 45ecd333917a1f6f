"""Comparing the rows of two databases, and rescuing rows of a backup."""
