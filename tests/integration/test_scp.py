"""Method scp against a real server and real databases: whole copies, or a refusal."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gymdbd.errors import CopyTornError, DiskFullError, StoppedError
from gymdbd.remote import scp
from gymdbd.remote.ssh import ssh
from gymdbd.source.errors import (
    ConnectionLostError,
    GymdbdError,
    SourceCorruptError,
    SourceEmptyError,
    SourceMissingError,
    SourceNotADatabaseError,
    SourceNotAFileError,
    SourceUnreadableError,
    StalledError,
)
from tests.support.databases import make_database
from tests.support.relay import Relay
from tests.support.sshd import SshServer, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gymdbd.remote.ssh.target import HostSettings

pytestmark = pytest.mark.usefixtures("ssh_home")

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
while True:
    connection.execute("INSERT INTO entry(body) VALUES (randomblob(2000))")
"""


def nothing(*_: object) -> None:
    """Do nothing."""


def copy(
    settings: HostSettings,
    source: Path,
    partial: Path,
    *,
    progress: Callable[[str, int, int], None] = nothing,
    check: Callable[[], None] = nothing,
    attempts: int = scp.ATTEMPTS,
) -> scp.Copied:
    """Connect and copy one database."""
    with ssh.connect(ssh.resolve(settings), check=check) as connection, connection.sftp() as remote:
        return scp.copy_database(
            remote, str(source), partial, progress=progress, check=check, attempts=attempts
        )


@contextlib.contextmanager
def live_database(
    path: Path, *, mode: str = "wal", rows: int = 500
) -> Iterator[sqlite3.Connection]:
    """Make a database and keep it open, as an application does; its WAL holds the newest rows."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE entry(id INTEGER PRIMARY KEY, body BLOB)")
        insert = "INSERT INTO entry(body) SELECT randomblob(900) FROM generate"
        series = (
            "WITH RECURSIVE generate(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM generate "
            f"WHERE n < {rows}) "
        )
        connection.execute(series + insert)
        if mode == "wal":
            connection.execute("PRAGMA wal_checkpoint")
        connection.execute(series + insert)
        yield connection


def fold_up(path: Path) -> str:
    """Return everything a database holds, as SQL."""
    uri = f"{path.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        return "\n".join(connection.iterdump())


@pytest.mark.parametrize("mode", ["wal", "delete", "persist"])
def test_a_quiet_source_is_copied_whole(ssh_server: SshServer, tmp_path: Path, mode: str) -> None:
    """The copy is one private file that needs no WAL and holds every committed row."""
    source, partial = tmp_path / "source.db", tmp_path / "here" / ".replica.db.partial"
    partial.parent.mkdir()
    seen: list[tuple[str, int, int]] = []
    with live_database(source, mode=mode):
        copied = copy(
            ssh_server.settings(), source, partial, progress=lambda *step: seen.append(step)
        )

        assert fold_up(source) == fold_up(partial)
    assert [partial] == list(partial.parent.iterdir())
    assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert copied.attempts == 1
    assert seen[-1] == ("copy", copied.copied_bytes, copied.copied_bytes)


@pytest.mark.parametrize(
    "name", ["a b'\"$x;.db", "체육관.db", os.fsdecode(b"caf\xe9.db"), "a\nb.db"]
)
def test_odd_names_are_copied(ssh_server: SshServer, tmp_path: Path, name: str) -> None:
    """Spaces, quotes, Hangul, newlines and bytes that are not UTF-8 are only names."""
    source, partial = tmp_path / name, tmp_path / ".x.partial"
    with live_database(source, rows=5):
        copied = copy(ssh_server.settings(), source, partial)
        assert fold_up(partial) == fold_up(source)

    assert copied.attempts == 1


def test_a_source_under_full_rate_writing_is_refused(ssh_server: SshServer, tmp_path: Path) -> None:
    """No attempt is accepted, method query is advised, and nothing is left behind."""
    source, partial = tmp_path / "source.db", tmp_path / "here" / ".replica.db.partial"
    partial.parent.mkdir()
    with live_database(source) as connection:
        # Large enough for the writer to have its turn during each copy, however busy the machine.
        connection.execute("CREATE TABLE filler AS SELECT randomblob(64000000) AS data")
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(source)])
    try:
        wal = source.with_name("source.db-wal")
        wait_until(lambda: wal.exists() and wal.stat().st_size > 100_000, "the writer")
        with pytest.raises(CopyTornError) as caught:
            copy(ssh_server.settings(), source, partial, attempts=3)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()

    assert "query" in caught.value.hint
    assert list(partial.parent.iterdir()) == []


def change_row(connection: sqlite3.Connection) -> None:
    """Change one row in place."""
    connection.execute("UPDATE entry SET body = zeroblob(900) WHERE id = 1")


def restart_log(connection: sqlite3.Connection) -> None:
    """Have the WAL begun anew, without changing its size."""
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    change_row(connection)


def empty_log(connection: sqlite3.Connection) -> None:
    """Have the WAL emptied."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def roll_back(connection: sqlite3.Connection) -> None:
    """Have pages of a transaction spilled into the file, and taken back."""
    connection.execute("PRAGMA cache_size=2")
    connection.execute("BEGIN")
    connection.execute("UPDATE entry SET body = zeroblob(899)")
    connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("mode", "meddle"),
    [
        ("wal", change_row),
        ("wal", restart_log),
        ("wal", empty_log),
        ("delete", change_row),
        ("memory", change_row),
        ("memory", roll_back),
    ],
)
def test_a_change_during_the_copy_is_noticed_and_copied_anew(
    ssh_server: SshServer, tmp_path: Path, mode: str, meddle: Callable[[sqlite3.Connection], None]
) -> None:
    """Whatever moves in mid-copy, the second attempt is taken and holds the change."""
    source, partial = tmp_path / "source.db", tmp_path / ".replica.db.partial"
    steps: list[int] = []
    with live_database(source, mode=mode) as application:

        def progress(_: str, done: int, __: int) -> None:
            steps.append(done)
            if len(steps) == 3:
                meddle(application)

        copied = copy(ssh_server.settings(), source, partial, progress=progress)

        assert copied.attempts == 2
        assert fold_up(source) == fold_up(partial)


def test_a_wal_with_a_bad_frame_is_refused_though_sqlite_reads_it(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """A copy would be an older state, whole and believed; it is neither damage nor a change."""
    source, partial = tmp_path / "source.db", tmp_path / ".replica.db.partial"
    with live_database(source) as application:
        with source.with_name("source.db-wal").open("r+b") as file:
            # In the random bytes of a row, so that SQLite reads it all the same.
            file.seek(32 + 24 + 3000)
            file.write(b"xyz")
        with pytest.raises(SourceUnreadableError) as caught:
            copy(ssh_server.settings(), source, partial)

        assert application.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert "frame 1 of the" in caught.value.message
    assert "method query" in caught.value.hint
    assert list(partial.parent.glob(".replica*")) == []


def _damage_schema(path: Path) -> None:
    """Let the schema name a page that the database does not have."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = 99999")


def _damage_page(path: Path) -> None:
    """Overwrite the head of the last page."""
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\xff" * 8)


def _newer_format(path: Path) -> None:
    """Let the header ask for a version of the file format that is not there yet."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(b"\x09\x09")


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (_damage_schema, SourceCorruptError),
        (_damage_page, SourceCorruptError),
        (_newer_format, SourceNotADatabaseError),
    ],
)
def test_what_is_wrong_with_a_database_at_rest_is_no_change(
    ssh_server: SshServer,
    tmp_path: Path,
    harm: Callable[[Path], None],
    error: type[GymdbdError],
) -> None:
    """Two equal copies prove it, as long as nothing changed, and the error names the file."""
    source = make_database(tmp_path / "source.db", mode="delete")
    harm(source)
    partial, size = tmp_path / ".replica.db.partial", source.stat().st_size
    begun: list[tuple[str, int, int]] = []

    with pytest.raises(error) as caught:
        copy(ssh_server.settings(), source, partial, progress=lambda *step: begun.append(step))
    with pytest.raises(error):
        copy(ssh_server.settings(), source, partial, attempts=1)

    assert str(source) in caught.value.message
    assert begun.count(("copy", size, size)) == 2
    assert list(tmp_path.glob(".replica*")) == []


def test_one_bad_copy_of_a_source_that_also_moved_proves_nothing(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """A change that left no trace may have torn that copy: only a second one would show it."""
    source = make_database(tmp_path / "source.db", mode="delete")
    _damage_page(source)

    def move_once(_: str, done: int, __: int) -> None:
        if done:
            os.utime(source, (1, 1))

    with pytest.raises(CopyTornError):
        copy(ssh_server.settings(), source, tmp_path / ".x.partial", progress=move_once, attempts=2)


def test_an_open_transaction_of_a_crashed_writer_is_refused(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """A hot rollback journal means that the main file alone is half a transaction."""
    source = tmp_path / "source.db"
    with live_database(source, mode="delete") as application:
        application.execute("PRAGMA cache_size=2")
        application.execute("BEGIN")
        application.execute("UPDATE entry SET body = zeroblob(899)")
        with pytest.raises(CopyTornError, match="journal"):
            copy(ssh_server.settings(), source, tmp_path / ".x.partial", attempts=1)


def make_missing(path: Path) -> None:
    """Make nothing."""
    del path


def make_noise(path: Path) -> None:
    """Make a file that is no database."""
    path.write_bytes(b"once upon a time " * 100)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (make_missing, SourceMissingError),
        (lambda path: path.touch(), SourceEmptyError),
        (make_noise, SourceNotADatabaseError),
        (lambda path: path.mkdir(), SourceNotAFileError),
        (os.mkfifo, SourceNotAFileError),
    ],
)
def test_what_is_no_database_is_named(
    ssh_server: SshServer,
    tmp_path: Path,
    make: Callable[[Path], None],
    error: type[GymdbdError],
) -> None:
    """Each kind of wrong source is an error of its own, at once."""
    make(tmp_path / "source.db")

    with pytest.raises(error):
        copy(ssh_server.settings(), tmp_path / "source.db", tmp_path / ".x.partial")


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_a_broken_link_ends_the_copy_and_leaves_nothing(
    ssh_server: SshServer, tmp_path: Path, fault: str
) -> None:
    """Cut or stalled in the middle of a file: an unreachable host, and no partial."""
    source, partial = tmp_path / "source.db", tmp_path / ".replica.db.partial"
    error = {"cut": ConnectionLostError, "stall": StalledError}[fault]
    with live_database(source, rows=4000), Relay(ssh_server.port) as relay:
        setattr(relay, f"{fault}_after", 3_500_000)
        settings = ssh_server.settings(
            port=relay.port, host_key_alias=f"[127.0.0.1]:{ssh_server.port}", stall_timeout_s=0.7
        )
        with pytest.raises(error):
            copy(settings, source, partial)

    assert not list(tmp_path.glob(".replica*"))


def test_a_full_disk_here_is_told_from_a_broken_link(ssh_server: SshServer, tmp_path: Path) -> None:
    """Trouble with writing is the destination's, and leaves nothing."""
    source, partial = tmp_path / "source.db", tmp_path / ".replica.db.partial"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with live_database(source):
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(DiskFullError):
                copy(ssh_server.settings(), source, partial)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not list(tmp_path.glob(".replica*"))


# The thread by which paramiko reads ahead may find the connection closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stop_leaves_nothing(ssh_server: SshServer, tmp_path: Path) -> None:
    """A run that is asked to stop in mid-copy removes what it had written."""
    source, partial = tmp_path / "source.db", tmp_path / ".replica.db.partial"

    def stop(*_: object) -> None:
        raise StoppedError("asked to stop")

    with live_database(source), pytest.raises(StoppedError):
        copy(ssh_server.settings(), source, partial, progress=stop)

    assert not list(tmp_path.glob(".replica*"))
