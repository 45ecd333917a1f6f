"""How the property tests run: files are written meanwhile, so that one example may be slow."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("gymdbd", deadline=None)
settings.load_profile("gymdbd")
