"""The other side of `across`: restoring a backup that arrives, as the user of the database."""

from __future__ import annotations

import contextlib
import json
import os
import select
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import files, lock
from gymdbd.config.kinds import RestoreConfig
from gymdbd.errors import StoppedError, UsageError
from gymdbd.jobs.context import Context
from gymdbd.jobs.restore import restore
from gymdbd.jobs.restore.across import PIECE_BYTES
from gymdbd.source.errors import ConnectionLostError, GymdbdError

if TYPE_CHECKING:
    import socket

_MOST_FILES = 8


class _Told:
    """A log that tells the other process each event."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def _tell(self, level: str, event: str, facts: dict[str, Any]) -> None:
        told = {"level": level, "event": event, "facts": facts}
        tell(self._line, json.loads(json.dumps(told, default=str)))

    def debug(self, event: str, **facts: Any) -> None:
        """Tell nothing."""

    def info(self, event: str, **facts: Any) -> None:
        """Tell a step of the work."""
        self._tell("info", event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Tell a warning."""
        self._tell("warning", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Tell an error."""
        self._tell("error", event, facts)


def tell(line: socket.socket, told: dict[str, Any]) -> None:
    """Send an object to the other process."""
    line.sendall(json.dumps(told).encode("utf-8", "surrogatepass") + b"\n")


def run(request: dict[str, Any], line: socket.socket) -> None:
    """Receive the backup that a request names, restore it, and tell what came of it."""
    try:
        told: dict[str, Any] = {"result": _restored(request, line).to_json()}
    except GymdbdError as error:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
    tell(line, told)


def _restored(request: dict[str, Any], line: socket.socket) -> Any:
    # The user of the process that asks may not follow the links of this one's.
    target = files.resolved(request["path"])
    folder = target.with_name(f"{target.name}.before-restore")
    files.require_folder(target.parent)

    def check() -> None:
        # The other process sends nothing any more: what can be read is the end.
        if select.select([line], [], [], 0)[0]:
            raise StoppedError("the restore was stopped", hint="the database has its old content")

    with lock.hold([lock.file_lock(target)]):
        files.make_folder(folder)
        with lock.hold([lock.archive_lock(folder)]), _received(request, folder, line) as backup:
            job = RestoreConfig(
                name="restore",
                kind="restore",
                backup=backup,
                target=target,
                replace=request["replace"] is True,
                busy_timeout=timedelta(seconds=request["busy_timeout_s"]),
            )
            return restore.run(job, Context(log=_Told(line), check=check))


@contextlib.contextmanager
def _received(request: dict[str, Any], folder: Path, line: socket.socket) -> Any:
    """Yield the backup in a folder of this user's, into which its files are received."""
    parts = request["files"][:_MOST_FILES]
    files.require_space(folder, sum(size for _, size in parts))
    paths = [folder / Path(name).name for name, _ in parts]
    if any(map(os.path.lexists, paths)):
        raise UsageError(
            f"there is a {paths[0].name} in {folder} already",
            hint=f"restore that one by its path, as the user of {folder}, or move it away",
        )
    try:
        tell(line, {"ready": True})
        for path, (_, size) in zip(paths, parts, strict=True):
            files.create(path)
            with files.writing(path), path.open("r+b") as file:
                done = 0
                while done < size:
                    piece = line.recv(min(PIECE_BYTES, size - done))
                    if not piece:
                        raise ConnectionLostError(
                            f"the restore into {folder} was stopped before the backup had arrived",
                            hint="nothing has changed; run it again",
                        )
                    file.write(piece)
                    done += len(piece)
        yield folder / request["backup"]
    finally:
        for path in paths:
            files.remove(path)
        guard = lock.archive_lock(folder)
        # Nothing was saved: there was no database.
        if list(folder.iterdir()) == [guard]:
            files.remove(guard)
            folder.rmdir()
