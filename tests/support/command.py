"""What the integration tests share: the command line, the application, holders of locks."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import lock
from gymdbd.config.kinds import BackupConfig
from gymdbd.jobs.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
GYMDBD = [sys.executable, "-m", "gymdbd"]

# Root may read and write everything; without its capabilities it is a user like any other.
ORDINARY_USER = (
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"] if os.geteuid() == 0 else []
)

_POLL_S = 0.01


def environment(**extra: str) -> dict[str, str]:
    """Return an environment in which gymdbd is found, from a checkout too."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


# Where Python has zstd: of itself from 3.14 on, otherwise from a package.
ZSTD_MODULES = ["compression.zstd", "backports.zstd"]


def environment_without(folder: Path, *modules: str) -> dict[str, str]:
    """Return an environment in which no Python finds these modules; `folder` takes its settings."""
    settings = f"import sys\nsys.modules.update(dict.fromkeys({modules!r}))\n"
    (folder / "sitecustomize.py").write_text(settings)
    return environment(PYTHONPATH=f"{folder}:{ROOT}")


def until(condition: Callable[[], Any], what: str, *, within_s: float = 20.0) -> Any:
    """Wait until `condition()` is true and return its value; fail naming `what` otherwise."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(_POLL_S)


def times_open(path: Path, pid: int | str = "self") -> int:
    """Count how often a process has a file open: this one, or another of Linux."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(entry.readlink())
    return links.count(path)


@dataclass
class Contended:
    """A lock that is held until whoever wants it, in this process, has asked for it five times.

    Give `check` to the work; each time that it is called by the one who waits, `seen` gets what
    `look()` returns. A work that does without the lock leaves it empty; one that does not wait
    gives up before the fifth time. The lock is taken by `take`, or from the beginning.
    """

    path: Path
    look: Callable[[], Any]
    at_once: bool = True
    seen: list[Any] = field(default_factory=list)
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Contended:
        """Take the lock, if it is to be taken at once."""
        if self.at_once:
            self.take()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it up."""
        self._held.close()

    def take(self) -> None:
        """Take the lock."""
        self._held.enter_context(lock.hold([self.path]))

    def check(self) -> None:
        """Look around if somebody waits, and let the fifth time be the last."""
        if times_open(self.path) > 1:
            self.seen.append(self.look())
        if len(self.seen) == 5:
            self._held.close()


def gymdbd(
    *arguments: object, cwd: Path | None = None, prefix: list[str] | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    return subprocess.run(
        [*(prefix or []), *GYMDBD, *map(str, arguments)],
        cwd=cwd,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def gymdbd_json(
    *arguments: object, cwd: Path | None = None, prefix: list[str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Run the command line with --json; return its exit code and the one object it printed."""
    done = gymdbd(*arguments, "--json", cwd=cwd, prefix=prefix)
    try:
        return done.returncode, dict(json.loads(done.stdout))
    except ValueError:
        raise AssertionError(f"no JSON: {done.stdout!r} {done.stderr!r}") from None


@dataclass
class EventLog:
    """A log that remembers its events: (level, event, facts)."""

    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)

    def debug(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("debug", event, facts))

    def info(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("info", event, facts))

    def warning(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("warning", event, facts))

    def error(self, event: str, **facts: Any) -> None:
        """Remember an event."""
        self.events.append(("error", event, facts))

    def named(self, event: str) -> list[dict[str, Any]]:
        """Return the facts of every event called `event`."""
        return [facts for _, name, facts in self.events if name == event]


def context(**changes: Any) -> Context:
    """Return a context with a log that remembers."""
    return Context(**{"log": EventLog(), **changes})


def backup_job(database: Path, archive: Path, **changes: Any) -> BackupConfig:
    """Return a backup job, creating its archive."""
    archive.mkdir(mode=0o700, exist_ok=True)
    settings: dict[str, Any] = {"name": "backup", "kind": "backup", **changes}
    return BackupConfig(database=database, archive=archive, **settings)


def write_config(folder: Path, jobs: dict[str, dict[str, Any]], **top: Any) -> Path:
    """Write a configuration (YAML takes JSON) with these jobs and return its path."""
    content = {
        "status_file": str(folder / "status.json"),
        "log": {"format": "json"},
        **top,
        "jobs": {name: {"kind": "backup", **job} for name, job in jobs.items()},
    }
    path = folder / "config.yaml"
    path.write_text(json.dumps(content, indent=1))
    return path


def own_etc(folder: Path, zone: str | None = None) -> tuple[Path, list[str]]:
    """Return an /etc for one process, and the prefix of a command that sees it so.

    /etc/localtime is a link to `zone`, as timedatectl makes it; without one it is not there.
    """
    etc = folder / "etc"
    etc.mkdir()
    for name in ("passwd", "group", "nsswitch.conf", "ld.so.cache"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), etc)
    if zone is not None:
        set_zone(etc, zone)
    script = 'mount --bind "$0" /etc && exec "$@"'
    return etc, [require("unshare"), "--mount", "sh", "-c", script, str(etc)]


def set_zone(etc: Path, zone: str) -> None:
    """Set the time zone as timedatectl does: a new link in the place of the old one."""
    link = etc / "new"
    link.symlink_to(f"/usr/share/zoneinfo/{zone}")
    link.replace(etc / "localtime")


def make_database(path: Path, *, rows: int = 100, mode: str = "wal") -> Path:
    """Create a small database with one table `t` and return its path."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO t (text) VALUES (?)", [(f"row {n}" * 20,) for n in range(rows)]
        )
        connection.execute("COMMIT")
    return path


def make_large_database(path: Path, *, size_mib: int) -> Path:
    """Create a database of about `size_mib` MiB, as fast as the disk takes it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO blobs (data) VALUES (zeroblob(16777216 - 4096))",
            [()] * (size_mib // 16),
        )
        connection.execute("CREATE TABLE last (word TEXT)")
        connection.execute("INSERT INTO last VALUES ('written beyond everything else')")
        connection.execute("COMMIT")
    return path


def query(path: Path | str, sql: str) -> list[tuple[Any, ...]]:
    """Ask a finished backup that nobody writes."""
    uri = f"{Path(path).absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        return connection.execute(sql).fetchall()


def broken_promises(path: Path | str) -> list[str]:
    """Return what is wrong with a copy of the application's database: integrity and totals."""
    found = [row[0] for row in query(path, "PRAGMA integrity_check") if row[0] != "ok"]
    ((members, rentals, events, fees),) = query(
        path, "SELECT members, rentals, events, fees FROM totals"
    )
    for what, expected, sql in (
        ("members", members, "SELECT count(*) FROM members"),
        ("rentals", rentals, "SELECT count(*) FROM rentals"),
        ("events", events, "SELECT count(*) FROM sensor_events"),
        ("fees", fees, "SELECT coalesce(sum(fee), 0) FROM rentals"),
        ("paid", fees, "SELECT coalesce(sum(paid), 0) FROM members"),
    ):
        ((actual,),) = query(path, sql)
        if actual != expected:
            found.append(f"{what}: {actual}, the totals say {expected}")
    return found


def tree(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder but the lock, by name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file() and path.name != ".gymdbd.lock"
    }


def backups(folder: Path) -> list[Path]:
    """List the files with a backup's name, oldest first."""
    # The second one of a second ends in -2.
    return sorted(folder.glob("*_backup_*.db"), key=lambda path: path.stem)


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


@contextlib.contextmanager
def sqlite_elsewhere(database: Path | str, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Let another process run these statements and keep its connection open.

    `database` is a path, or a URI such as `file:...?mode=ro`.
    """
    script = (
        "import sqlite3, sys\n"
        "uri = sys.argv[1].startswith('file:')\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None, uri=uri)\n"
        "for statement in sys.argv[2:]:\n"
        "    connection.execute(statement).fetchall()\n"
        "print('done', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "done\n"
            yield process
        finally:
            process.communicate(timeout=30)


def require(tool: str) -> str:
    """Return the path of a program that the tests need; fail saying which package has it."""
    found = shutil.which(tool)
    assert found is not None, f"apt-get install {tool}"
    return found
