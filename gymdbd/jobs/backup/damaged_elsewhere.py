"""Saving a damaged database of another user as it is: that user's process reads its files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from gymdbd import files
from gymdbd.errors import ReadFailedError
from gymdbd.jobs.backup import damaged
from gymdbd.jobs.elsewhere import parse
from gymdbd.source.format import JOURNAL, WAL, beside

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from gymdbd.jobs.context import Context
    from gymdbd.jobs.elsewhere import Elsewhere

_SUFFIXES = (WAL, JOURNAL, "")
_PIECE_BYTES = 1024 * 1024
_MOST_LINE = 64 * 1024


def preserve(there: Elsewhere, archive: Path, reason: str, context: Context) -> Path:
    """Copy the files of the database as they are; return where the `.db` lies."""
    with there.asked("files") as answering, answering.makefile("rb") as reader:
        sizes = parse(reader.readline(_MOST_LINE)).get("sizes")
        known = sizes if isinstance(sizes, dict) else {}
        parts = {suffix: known.get(suffix) for suffix in _SUFFIXES}
        present = {suffix: n for suffix, n in parts.items() if isinstance(n, int) and n >= 0}
        if not present:
            raise ReadFailedError(f"the files of {there.path} cannot be read by its owner")

        def fill(partial: Path) -> None:
            for suffix, size in present.items():
                _receive(reader, beside(partial, suffix), size, context)

        name = damaged.here(there.path)
        return damaged.keep(name, archive, reason, context, fill, size=2 * sum(present.values()))


def _receive(reader: Any, target: Path, size: int, context: Context) -> None:
    files.create(target)
    with files.writing(target), target.open("r+b") as file:
        done = 0
        while done < size:
            piece = reader.read(min(_PIECE_BYTES, size - done))
            if not piece:
                raise ReadFailedError(
                    f"only {done} of the {size} bytes of {target.name} arrived from the process of "
                    "the database's owner",
                    hint="run this again; if it stays so, save the files by hand: cp with the "
                    "application stopped",
                )
            file.write(piece)
            done += len(piece)
            context.check()


def send(request: dict[str, Any], answering: socket.socket) -> None:
    """Send the files of a database to the process that asks, in its owner's."""
    path = request["path"]
    with damaged.held_still(path):
        # None is closed before the end: that would drop the locks which hold the database still.
        opened = {}
        for suffix in _SUFFIXES:
            place = beside(path, suffix)
            if files.is_there(place):
                opened[suffix] = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        sizes = {suffix: os.fstat(number).st_size for suffix, number in opened.items()}
        answering.sendall(json.dumps({"sizes": sizes}).encode() + b"\n")
        for suffix, number in opened.items():
            done = 0
            while done < sizes[suffix]:
                piece = os.read(number, min(_PIECE_BYTES, sizes[suffix] - done))
                if not piece:
                    return
                answering.sendall(piece)
                done += len(piece)
