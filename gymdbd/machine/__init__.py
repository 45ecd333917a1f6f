"""The machine itself: how its disks are, how long they have room, their wear and its power."""
