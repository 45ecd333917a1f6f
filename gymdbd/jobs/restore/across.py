"""Restoring into a database of another user than the archive: that user's process restores it.

It gets the files of the backup, and saves what it overwrites beside the database: root's archive
takes nothing that another user's process writes, and that process nothing from the archive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymdbd import bounded, files
from gymdbd.errors import CrashError
from gymdbd.jobs.elsewhere import lines, send
from gymdbd.jobs.restore.result import Overwrote, RestoreResult
from gymdbd.source.errors import to_error

if TYPE_CHECKING:
    import socket

    from gymdbd.archive.backup import Backup
    from gymdbd.config.kinds import RestoreConfig
    from gymdbd.jobs.context import Context, Timings
    from gymdbd.jobs.elsewhere import Elsewhere

PIECE_BYTES = 1024 * 1024


def run(
    job: RestoreConfig, backup: Backup, there: Elsewhere, context: Context, timings: Timings
) -> RestoreResult:
    """Let the other process restore a backup that was found good; return what came of it."""
    parts = [(path, path.stat().st_size) for path in backup.files if files.is_there(path)]
    request: dict[str, Any] = {
        "backup": backup.path.name,
        "replace": job.replace,
        "busy_timeout_s": job.busy_timeout.total_seconds(),
        "files": [(path.name, size) for path, size in parts],
    }
    with timings.step("restore"), there.asked("restore", **request) as restoring:
        told = _refusal(restoring, context)
        if not told:
            for path, size in parts:
                with path.open("rb") as file:
                    _send_part(restoring, file, size, context)
            told = _await_result(restoring, context)
    if "message" in told:
        raise to_error(told)
    return _result(told.get("result"), job, backup, timings)


def _refusal(restoring: socket.socket, context: Context) -> dict[str, Any]:
    """Await that the other process wants the files; return why it does not."""
    for told in lines(restoring, context.check):
        return {} if told.get("ready") else told
    return {}


def _send_part(restoring: socket.socket, file: Any, size: int, context: Context) -> None:
    done = 0
    while done < size and (piece := file.read(min(PIECE_BYTES, size - done))):
        send(restoring, piece)
        done += len(piece)
        context.progress("restore", done, size)
        context.check()


def _await_result(restoring: socket.socket, context: Context) -> dict[str, Any]:
    """Pass on what the other process logs, until it tells the result."""
    for told in lines(restoring, context.check):
        if "event" not in told:
            return told
        level, facts = told.get("level"), told.get("facts")
        log = context.log.warning if level in ("warning", "error") else context.log.info
        facts = facts if isinstance(facts, dict) else {}
        log(str(told["event"]), **{str(name): str(fact) for name, fact in facts.items()})
    raise CrashError(
        "the process that restores ended without a result",
        hint="look at the log, and for the out-of-memory killer (dmesg); look at the database "
        "before the application goes on: it has its old content or that of the backup",
    )


def _result(told: object, job: RestoreConfig, backup: Backup, timings: Timings) -> RestoreResult:
    found = told if isinstance(told, dict) else {}

    def text(name: str) -> str | None:
        return found[name] if isinstance(found.get(name), str) else None

    def texts(name: str) -> list[str]:
        value = found.get(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    return RestoreResult(
        backup=str(backup.path),
        target=str(job.target),
        how=text("how") or "",
        undo=text("undo"),
        undo_command=text("undo_command"),
        tables=backup.manifest.tables if backup.manifest else {},
        holders=texts("holders"),
        written_since=texts("written_since"),
        restart=texts("restart"),
        remarks=texts("remarks"),
        rejected=[],
        duration_s=timings.total_s(),
        timings=timings.seconds,
        overwrote=_overwrote(found.get("overwrote")),
    )


def _overwrote(told: object) -> Overwrote | None:
    try:
        return bounded.typed(Overwrote, told) if isinstance(told, dict) else None
    except TypeError:
        return None
