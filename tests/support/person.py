"""A person at a terminal: a real pseudoterminal, on which a command asks and is answered."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.command import GYMDBD, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

CTRL_C = "\x03"
_PATIENCE_S = 60.0
# Whoever runs the tests in the background ignores Ctrl-C, and so would what they start.
_ON_A_TERMINAL = [require("env"), "--default-signal=INT", require("setsid"), "--ctty"]
_SIZE = 65536


@dataclass
class Person:
    """Reads what a command shows, and types; `said` is all that was shown so far."""

    terminal: int
    process: subprocess.Popen[bytes]
    said: str = ""

    def expect(self, text: str) -> None:
        """Read until the command has shown this text; fail with what it showed instead."""
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.said:
            assert time.monotonic() < deadline, f"no {text!r} in {self.said!r}"
            assert self._read(), f"no {text!r} in {self.said!r}"

    def type(self, text: str) -> None:
        """Type on the keyboard; a line ends with a line break."""
        os.write(self.terminal, text.encode())

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=_PATIENCE_S)

    def _read(self) -> bool:
        """Read what is shown next; False if the command has ended."""
        ready, _, _ = select.select([self.terminal], [], [], _PATIENCE_S)
        assert ready, f"nothing more came after {self.said!r}"
        try:
            data = os.read(self.terminal, _SIZE)
        except OSError:
            # Linux answers with an error when nobody has the other side open.
            return False
        self.said += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@contextlib.contextmanager
def typing(
    *arguments: object, cwd: Path, environment: Mapping[str, str], prefix: tuple[str, ...] = ()
) -> Iterator[Person]:
    """Let a person type this command line; the terminal is its own, so that Ctrl-C reaches it."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*_ON_A_TERMINAL, *prefix, *GYMDBD, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Person(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
