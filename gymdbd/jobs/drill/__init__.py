"""A drill: rehearse a restore of the newest backup, and time it."""
