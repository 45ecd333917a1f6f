"""What a process does that handles a database as the user who decides about it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

from gymdbd.jobs.backup import damaged_elsewhere
from gymdbd.jobs.elsewhere import MOST_REQUEST, parse
from gymdbd.jobs.restore import received
from gymdbd.source import agreement, database, server
from gymdbd.source.errors import GymdbdError
from gymdbd.source.schema import load_schema
from gymdbd.source.snapshot import Snapshot
from gymdbd.sqlite import opening, soundness
from gymdbd.sqlite.checkpoint import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Handler = Callable[[dict[str, Any], socket.socket], None]


def await_requests(asked: socket.socket, path: Path) -> None:
    """Answer every request in a process of its own, until the connection ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        line, descriptors, _, _ = socket.recv_fds(asked, MOST_REQUEST, 1)
        if not line:
            return
        with socket.socket(fileno=descriptors[0]) as answering:
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                asked.close()
                request = {**parse(line), "path": path}
                with contextlib.suppress(BaseException):
                    HANDLERS[str(request.get("do"))](request, answering)
                os._exit(0)


def answer(work: Callable[[dict[str, Any]], Any]) -> Handler:
    """Make a handler that answers with the result of `work` or its error."""

    def handle(request: dict[str, Any], answering: socket.socket) -> None:
        try:
            told = {"result": work(request)}
        except GymdbdError as error:
            told = {"code": error.code, "message": error.message, "hint": error.hint}
        received.tell(answering, told)

    return handle


def _serve(request: dict[str, Any], answering: socket.socket) -> None:
    with answering.makefile("rb") as reader, answering.makefile("wb") as writer:
        server.serve(request["path"], reader, writer, max_snapshot_s=math.inf)


def _checkpoint(request: dict[str, Any]) -> Any:
    path, timeout_s = database.locate(request["path"]), request["busy_timeout_s"]
    # A checkpoint would write what a damaged index says to the main file.
    with Snapshot(path, busy_timeout_s=timeout_s) as now:
        agreement.require(now)
    return vars(checkpoint(path, request["mode"], busy_timeout_s=timeout_s))


def _problems(request: dict[str, Any]) -> list[str]:
    with opening.reading_live(database.locate(request["path"])) as there:
        load_schema(there)
        return list(soundness.check(there).problems)


HANDLERS: dict[str, Handler] = {
    "serve": _serve,
    "checkpoint": answer(_checkpoint),
    "problems": answer(_problems),
    "restore": received.run,
    "files": damaged_elsewhere.send,
}
