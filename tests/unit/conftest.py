"""How the property tests run."""

from __future__ import annotations

from hypothesis import settings

# Files are written meanwhile, so that one example may be slow.
settings.register_profile("gymdbd", deadline=None)
settings.load_profile("gymdbd")
