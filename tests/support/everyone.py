"""An installation of gymdbd for every user: a venv or a clone may be its owner's alone."""

from __future__ import annotations

import atexit
import functools
import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from tests.support.command import ROOT

_FOLDER = Path(tempfile.gettempdir(), f"gymdbd-everyone-{os.getpid()}")

# Words before a command that becomes another user, who finds gymdbd there.
ENVIRONMENT = ["env", "HOME=/nonexistent", f"PYTHONPATH={_FOLDER}"]


@functools.cache
def install() -> None:
    """Copy gymdbd and what it needs, once for this process of the tests."""
    _FOLDER.mkdir()
    _FOLDER.chmod(0o755)
    atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
    shutil.copytree(ROOT / "gymdbd", _FOLDER / "gymdbd")
    for name in _needed("gymdbd", set()):
        _copy(importlib.metadata.distribution(name))


def _needed(name: str, known: set[str]) -> set[str]:
    """Return the distributions that one needs here, by name."""
    for text in importlib.metadata.requires(name) or ():
        need = Requirement(text)
        if need.name not in known and (not need.marker or need.marker.evaluate({"extra": ""})):
            known.add(need.name)
            _needed(need.name, known)
    return known


def _copy(distribution: importlib.metadata.Distribution) -> None:
    tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != os.pardir}
    for top in tops - {"__pycache__"}:
        place = Path(str(distribution.locate_file(top)))
        if place.is_dir():
            shutil.copytree(place, _FOLDER / top, dirs_exist_ok=True)
        elif place.exists():
            shutil.copy(place, _FOLDER / top)
