"""How the property tests run, and what can be tested on this machine."""

from __future__ import annotations

from hypothesis import settings

from tests.disks import may_mount

# Files are written meanwhile, so that one example may be slow.
settings.register_profile("gymdbd", deadline=None)
settings.load_profile("gymdbd")

collect_ignore = [] if may_mount() else ["test_mounted.py"]
