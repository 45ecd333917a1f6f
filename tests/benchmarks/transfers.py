"""The contestants of the pull benchmark: each keeps a copy of its own of one database.

All of them go through the same sshd on loopback. None but gymdbd copies a consistent state,
looks at what it has copied, or waits until it is on the disk.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, log, partials
from gymdbd.config.kinds import PullConfig
from gymdbd.config.parts import SshConfig
from gymdbd.jobs.context import Context
from gymdbd.jobs.pull import pull
from tests.benchmarks.tables import LITESTREAM
from tests.support.command import GYMDBD
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.sshd import SshServer

HOST = "bench"
LOG_VARIABLE = "GYMDBD_BENCHMARK_LOG"
# These grow with the database wherever the file system cannot share blocks.
_GROWING = ("clone", "verify", "save", "publish")


@dataclass(frozen=True)
class Taken:
    """One transfer: its seconds, the bytes that travelled, and what gymdbd says of its steps."""

    seconds: float
    wire_bytes: int
    strategy: str = ""
    steps: dict[str, float] = field(default_factory=dict)

    @property
    def own_s(self) -> float:
        """Return the seconds apart from local copying, checking and saving."""
        return self.seconds - sum(self.steps.get(name, 0.0) for name in _GROWING)


class Gymdbd:
    """`gymdbd pull`, run in this process as a child of the daemon does."""

    def __init__(
        self, name: str, server: SshServer, database: Path, folder: Path, *, saving: bool = False
    ) -> None:
        self.name = name
        folder.mkdir()
        self._folder = folder
        self._job = PullConfig(
            name="bench",
            kind="pull",
            host="127.0.0.1",
            remote_database=str(database),
            replica=folder / "replica.db",
            backup_before=saving,
            ssh=SshConfig(
                port=server.port,
                identity_file=str(server.user_key),
                identities_only=True,
                known_hosts=str(server.known_hosts),
            ),
        )

    def forget(self) -> None:
        """Remove the replica and what is known of it."""
        for each in self._folder.iterdir():
            if each.is_file():
                each.unlink()

    def run(self) -> Taken:
        """Pull."""
        started = time.monotonic()
        result = pull.run(self._job, Context(log=log.logger()))
        seconds = time.monotonic() - started
        wire = result.bytes_sent + result.bytes_received
        return Taken(seconds, wire, result.strategy, result.timings)

    def seed(self, database: Path) -> None:
        """Lay a copy of the database where an interrupted pull leaves one: what arrived stays."""
        files.clone(database, partials.begin(self._job.replica))

    def peak_memory(self) -> int:
        """Pull, and return the most bytes of memory that the serving side had meanwhile."""
        peak, ended = [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.005):
                peak[0] = max(peak[0], _serving_bytes())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self.run()
        finally:
            ended.set()
            watcher.join()
        return peak[0]


class Command(Gymdbd):
    """`gymdbd pull` by hand, with Python's start and everything that it imports."""

    def __init__(self, name: str, server: SshServer, database: Path, folder: Path) -> None:
        super().__init__(name, server, database, folder)
        options = {
            "port": server.port,
            "identity_file": str(server.user_key),
            "identities_only": True,
            "known_hosts": str(server.known_hosts),
        }
        job = {
            "kind": "pull",
            "every": "1d",
            "host": "127.0.0.1",
            "remote_database": str(database),
            "replica": str(self._job.replica),
            "backup_before": False,
            "ssh": options,
        }
        (folder / "config").mkdir()
        config = write_config(folder / "config", {"bench": job})
        self._words = [*GYMDBD, "-c", str(config), "pull", "--json"]

    def run(self) -> Taken:
        """Pull; what it says of its steps leaves out the start, which is what this one is for."""
        started = time.monotonic()
        done = subprocess.run(self._words, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - started
        result = json.loads(done.stdout)
        wire = result["bytes_sent"] + result["bytes_received"]
        return Taken(seconds, wire, result["strategy"])


class Program:
    """Another program that copies the files as they are, `-wal` included."""

    def __init__(self, name: str, words: list[str], database: Path, folder: Path) -> None:
        self.name = name
        folder.mkdir()
        self._folder = folder
        self._files = [database, database.with_name(database.name + "-wal")]
        self._words = words

    def forget(self) -> None:
        """Remove what it has copied."""
        for each in self._folder.iterdir():
            each.unlink()

    def run(self) -> Taken:
        """Copy; the bytes are what rsync says, or else those of the files."""
        sources = [f"{HOST}:{path}" for path in self._files if path.exists()]
        started = time.monotonic()
        done = subprocess.run(
            [*self._words, *sources, str(self._folder)], check=True, capture_output=True, text=True
        )
        seconds = time.monotonic() - started
        said = re.findall(r"Total bytes (?:sent|received): ([\d,]+)", done.stdout)
        wire = sum(int(number.replace(",", "")) for number in said)
        return Taken(seconds, wire or sum(p.stat().st_size for p in self._files if p.exists()))


class Litestream:
    """litestream, which sends what changed to a folder over SFTP, and a restore from there.

    It leaves tables of its own in the database and wants the checkpoints to itself, so that it
    gets a database of its own, which must be changed like the other one: `connection` is open on it
    as an application's would be.
    """

    def __init__(self, server: SshServer, database: Path, folder: Path) -> None:
        self.name = LITESTREAM
        folder.mkdir()
        live = folder / "live.db"
        files.clone(database, live)
        self.connection = sqlite3.connect(live, isolation_level=None)
        self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self._sent, self._copy = folder / "sent", folder / "copy.db"
        self._known = folder / ".live.db-litestream"
        replica = {
            "type": "sftp",
            "host": f"127.0.0.1:{server.port}",
            "user": getpass.getuser(),
            "key-path": str(server.user_key),
            "path": str(self._sent),
        }
        self._config = folder / "litestream.yml"
        self._config.write_text(json.dumps({"dbs": [{"path": str(live), "replica": replica}]}))

    def forget(self) -> None:
        """Remove what it has sent, what it knows of that, and the copy."""
        for each in (self._sent, self._known):
            shutil.rmtree(each, ignore_errors=True)
        self._copy.unlink(missing_ok=True)

    def run(self) -> Taken:
        """Send what is new, and restore; the bytes are those of the files that it has sent."""
        before = self._sent_bytes()
        self._copy.unlink(missing_ok=True)
        started = time.monotonic()
        for words in (
            ("replicate", "-config", str(self._config), "-once"),
            ("restore", "-o", str(self._copy), f"file://{self._sent}"),
        ):
            subprocess.run(["litestream", *words], check=True, capture_output=True)
        return Taken(time.monotonic() - started, self._sent_bytes() - before)

    def _sent_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._sent.rglob("*") if path.is_file())


class Sqlite3Rsync:
    """`sqlite3_rsync`, where somebody has built it: a consistent state, not looked at again."""

    name = "`sqlite3_rsync`"

    def __init__(self, wrapper: Path, database: Path, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._log = folder.with_name(f"{folder.name}.log")
        replica = str(folder / "replica.db")
        self._words = [f"{HOST}:{database}", replica, "--ssh", str(wrapper)]
        # Over there the program need not be in the PATH of a session without a terminal.
        self._words += ["--exe", str(shutil.which("sqlite3_rsync"))]

    def forget(self) -> None:
        """Remove the replica."""
        for each in self._folder.iterdir():
            each.unlink()

    def run(self) -> Taken:
        """Bring its replica up to date; the bytes are what its `ssh` says, SSH's own included."""
        self._log.unlink(missing_ok=True)
        started = time.monotonic()
        subprocess.run(
            ["sqlite3_rsync", *self._words],
            check=True,
            capture_output=True,
            env={**os.environ, LOG_VARIABLE: str(self._log)},
        )
        seconds = time.monotonic() - started
        said = re.findall(r"Transferred: sent (\d+), received (\d+)", self._log.read_text())
        return Taken(seconds, sum(int(number) for pair in said for number in pair))


class CheckedSqlite3Rsync(Sqlite3Rsync):
    """The same, and then SQLite's check of what it made: what a first pull of ours includes."""

    name = "`sqlite3_rsync`, then `PRAGMA integrity_check`"

    def run(self) -> Taken:
        """Bring the replica up to date and check all of it."""
        copied = super().run()
        started = time.monotonic()
        with contextlib.closing(sqlite3.connect(self._folder / "replica.db")) as connection:
            found = connection.execute("PRAGMA integrity_check").fetchall()
        if found != [("ok",)]:
            raise AssertionError(found)
        return Taken(copied.seconds + time.monotonic() - started, copied.wire_bytes)


Contestant = Gymdbd | Program | Litestream | Sqlite3Rsync


def client_files(server: SshServer, folder: Path) -> tuple[Path, Path]:
    """Write a configuration for OpenSSH's client, and an `ssh` that uses it; return both."""
    config, wrapper = folder / "ssh_config", folder / "ssh"
    config.write_text(server.config_block(HOST, "BatchMode yes", "LogLevel ERROR"))
    # What travelled, SSH's own included, is only told to who asks for the log of its work.
    wrapper.write_text(f'#!/bin/sh\nexec ssh -v -E "${LOG_VARIABLE}" -F "{config}" "$@"\n')
    wrapper.chmod(0o700)
    return config, wrapper


def _serving_bytes() -> int:
    """Return the peak memory of the serving side that runs now, 0 without one."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            peak = _peak_if_serving(folder)
            if peak:
                return peak
    return 0


def _peak_if_serving(process: Path) -> int:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        if words[1:5] != [b"-I", b"-S", b"-B", b"-c"]:
            return 0
        status = (process / "status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def quiet_home(folder: Path) -> Mapping[str, str]:
    """Return the environment of sessions over there: a home without start-up files of a shell.

    What those cost (a version manager of Python: a quarter of a second) is nobody's work here.
    """
    home = folder / "home"
    home.mkdir()
    return {"HOME": os.fspath(home)}
