"""The gym's application, running in a process of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.command import ROOT, environment
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True)
class App:
    """The gym's application, running in a process of its own."""

    address: str
    pid: int
    database: Path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and return the answer."""
        request = urllib.request.Request(  # noqa: S310 - our own server
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own server
            return dict(json.load(answer))

    def wait_for_commits(self, count: int) -> None:
        """Wait until the writer has made `count` commits."""
        until(lambda: self.ask("GET", "/writer")["commits"] >= count, f"{count} commits")


@contextlib.contextmanager
def running_app(database: Path, *, autocheckpoint: int = 1000) -> Iterator[App]:
    """Run the application on `database` and stop it in the end; it has one member."""
    command = [sys.executable, "-m", "tests.support.flask_app", str(database)]
    with subprocess.Popen(
        [*command, f"--autocheckpoint={autocheckpoint}"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            app = App(process.stdout.readline().strip(), process.pid, database)
            app.ask("POST", "/members", {"name": "김회원"})
            yield app
        finally:
            process.communicate(timeout=30)
