"""A database that belongs to another user than its archive: a process of that user handles it.

Root starts that process before it becomes the user who decides about the archive. Each request is
a line of JSON with one end of a connection, on which a process of its own answers. The pages of a
snapshot travel by the protocol of a pull, everything else as JSON.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import acting, bounded, files
from gymdbd.source.errors import ConnectionLostError, RemoteError, to_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gymdbd.acting import User
    from gymdbd.remote.client import Session
    from gymdbd.sqlite.checkpoint import Checkpoint


MOST_REQUEST = 64 * 1024
_POLL_S = 0.2

# The process for each database that this process must not open itself.
_started: dict[Path, socket.socket] = {}


def start(user: User | None, path: Path, work: Callable[[socket.socket], None]) -> None:
    """Let a process of `user`, None for root, handle the database at `path` from now on.

    `work` awaits the requests on a connection (`gymdbd.jobs.handled`).
    """
    if path not in _started:
        _started[path] = acting.start(user, work)


def of(path: Path) -> Elsewhere | None:
    """Return the database at `path` if another process handles it."""
    return Elsewhere(path, _started[path]) if path in _started else None


class Elsewhere:
    """A database that another process handles, as the user who decides about it."""

    def __init__(self, path: Path, control: socket.socket) -> None:
        self.path = path
        self._control = control

    @contextlib.contextmanager
    def asked(self, what: str, **details: Any) -> Iterator[socket.socket]:
        """Send a request; yield the connection to the process that answers it."""
        ours, theirs = socket.socketpair()
        line = json.dumps({"do": what, **details}).encode() + b"\n"
        with ours:
            with theirs:
                try:
                    socket.send_fds(self._control, [line], [theirs.fileno()])
                except OSError as error:
                    raise ConnectionLostError(
                        f"the process that reads {self.path} has ended ({error.strerror})",
                        hint="run this again, and look at the log",
                    ) from error
            yield ours

    def ask(self, what: str, check: Callable[[], None] = lambda: None, **details: Any) -> Any:
        """Send a request and return its result, of which no type is known; raises its error."""
        with self.asked(what, **details) as answering:
            answer = next(lines(answering, check), {})
        if "message" in answer:
            raise to_error(answer)
        if "result" not in answer:
            raise RemoteError(f"the process that handles {self.path} ended without an answer")
        return answer["result"]

    @contextlib.contextmanager
    def session(
        self, progress: Callable[[str, int, int], None], check: Callable[[], None]
    ) -> Iterator[Session]:
        """Yield a session about a snapshot of the database."""
        from gymdbd.remote.client import Session  # noqa: PLC0415 - only if the users differ

        with (
            self.asked("serve") as serving,
            serving.makefile("rb") as reader,
            serving.makefile("wb") as writer,
        ):
            yield Session(reader, writer, progress=progress, check=check)

    @contextlib.contextmanager
    def copied(self, check: Callable[[], None]) -> Iterator[Path]:
        """Yield a copy of the database, of this user, for as long as the block lasts."""
        import tempfile  # noqa: PLC0415 - few databases are another user's

        with tempfile.TemporaryDirectory(prefix="gymdbd-") as folder:
            copy = Path(folder) / self.path.name
            with self.session(lambda *_: None, check) as session:
                files.require_space(copy.parent, session.fingerprint.size_bytes)
                self.fetch(session, copy)
            yield copy

    @staticmethod
    def fetch(session: Session, target: Path) -> None:
        """Write the snapshot of a session into the new file `target`, which needs no WAL."""
        from gymdbd.remote import delta  # noqa: PLC0415 - only if the users differ
        from gymdbd.sqlite import copying  # noqa: PLC0415 - so is this

        files.create(target)
        session.fetch(target, delta.choose(None, session.fingerprint, None))
        copying.need_no_wal(target)

    def checkpoint(self, mode: str, *, busy_timeout_s: float) -> Checkpoint:
        """Run one checkpoint of the database."""
        from gymdbd.sqlite.checkpoint import Checkpoint  # noqa: PLC0415 - only if the users differ

        found = self.ask("checkpoint", mode=mode, busy_timeout_s=busy_timeout_s)
        found = found if isinstance(found, dict) else {}
        frames = {name: found.get(name) for name in ("busy", "log", "checkpointed")}
        blockers = found.get("blocked_by")
        return Checkpoint(
            str(found.get("mode")),
            **{name: n if isinstance(n, int) else None for name, n in frames.items()},
            guarded=found.get("guarded") is True,
            skipped=str(found.get("skipped") or ""),
            blocked_by=tuple(map(str, blockers)) if isinstance(blockers, list) else (),
        )

    def problems(self, check: Callable[[], None]) -> tuple[str, ...]:
        """Return what SQLite finds damaged in the database."""
        found = self.ask("problems", check)
        return tuple(map(str, found)) if isinstance(found, list) else ()


def lines(answering: socket.socket, check: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Yield the objects that the other process tells, one a line; `check` may raise to stop."""
    data = b""
    while True:
        while not select.select([answering], [], [], _POLL_S)[0]:
            check()
        piece = b""
        # It is reset if the other process has ended before it had read all that was sent.
        with contextlib.suppress(ConnectionResetError):
            piece = answering.recv(MOST_REQUEST)
        if not piece or len(data) > bounded.MOST_BYTES:
            return
        *whole, data = (data + piece).split(b"\n")
        yield from map(parse, whole)


def send(line: socket.socket, data: bytes) -> None:
    """Send bytes to the other process; if it has ended, its last line says why."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        line.sendall(data)


def parse(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line, an empty one if there is none."""
    with contextlib.suppress(*bounded.FAULTS):
        content = bounded.parse(line)
        if isinstance(content, dict):
            return content
    return {}
