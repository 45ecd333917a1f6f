"""A receiving side, shipped into a Python of its own as over SSH, and spoken to over pipes."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd.remote import bootstrap
from gymdbd.remote.putting import Placed, Putting, There
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

STAMP = "20261123T071450Z"
_PIECE_BYTES = 64 * 1024


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass
class Side:
    """The process over there, and the conversation with it."""

    process: subprocess.Popen[bytes]
    putting: Putting

    def ask(
        self, size: int, owner: dict[str, Any] | None = None, *, replace: bool = False
    ) -> There:
        """Announce a database."""
        return self.putting.ask(size, owner or {}, replace=replace, stamp=STAMP)

    def put(self, content: bytes, owner: dict[str, Any] | None = None, **how: bool) -> Placed:
        """Put a database in its place."""
        self.ask(len(content), owner, **how)
        self.putting.put(pieces(content), len(content), _nothing)
        return self.putting.publish()

    def leave(self) -> None:
        """Be gone without a word, and wait until the other side has noticed."""
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait(timeout=20)


def pieces(content: bytes) -> Iterable[bytes]:
    """Cut a database into pieces to send."""
    return (content[at : at + _PIECE_BYTES] for at in range(0, len(content), _PIECE_BYTES))


@contextlib.contextmanager
def receiving(database: Path | str, *prefix: str) -> Iterator[Side]:
    """Start a receiving side for a place, behind the words of `prefix`."""
    words: Sequence[str] = [*prefix, *bootstrap.arguments(sys.executable)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdin
        assert process.stdout
        side = Side(
            process,
            Putting(
                process.stdout,
                process.stdin,
                functools.partial(bootstrap.receiver, str(database)),
                check=_nothing,
                confirm=_nothing,
            ),
        )
        try:
            yield side
        finally:
            side.leave()


def await_arrival(folder: Path, size: int) -> Path:
    """Wait until so many bytes lie beside the place; return the partial file."""

    def find() -> Path | None:
        for path in folder.glob(".gymdbd-rebuild-*"):
            if path.stat().st_size >= size:
                return path
        return None

    found: Path = until(find, f"{size} bytes beside the place")
    return found
