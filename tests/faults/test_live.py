"""Applications that SQLite's locks do not tell of, and databases of other users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults import table
from tests.support import everyone, forgetful, samples
from tests.support.command import gymdbd_json
from tests.support.databases import backups, make_database, query

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOST = table.row(
    "the application has lost its locks",
    "it opens and closes its own database, goes on committing during and after each operation, "
    "and is killed",
    "every commit is there; its WAL is never removed",
)
_IDLE = table.row(
    "an idle database of another user's",
    "each operation by a user of its group, for each mode of the file, then the application starts",
    "done, or refused by name; nothing beside it keeps the application from writing",
)
_APP, _OTHER = 12001, 12002
_USER = [*everyone.ENVIRONMENT, "setpriv"]
_SIDES = ("-wal", "-shm", "-journal")
_WRITE = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
    "c.execute(\"INSERT INTO t (text) VALUES ('app')\"); c.commit()"
)

_BACKUPS = [["backup"], ["backup", "--raw"], ["backup", "--skip-checkpoint"]]
_RESTORES = [["restore"], ["restore", "--replace"], ["restore", "--dry-run"]]


def _words(operation: list[str], database: Path, archive: Path) -> list[object]:
    verb, *flags = operation
    if verb == "backup":
        return [verb, "--database", database, "--archive", archive, *flags]
    return [verb, backups(archive)[0], "--to", database, *flags]


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that every user may enter."""
    everyone.install()
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-live-"))
    folder.chmod(0o755)
    for name in ("data", "archive"):
        (folder / name).mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("operations", [_BACKUPS, _RESTORES], ids=["backup", "restore"])
def test_an_application_without_locks_loses_nothing(
    place: Path, operations: list[list[str]]
) -> None:
    """A restore overwrites what was there before it; what comes after it stays."""
    problems = {}
    for operation in samples.sample(operations, f"lost {operations[0]}"):
        database = make_database(place / "data" / "gym.db")
        with forgetful.running(database):
            pass
        first = gymdbd_json(*_words(["backup"], database, place / "archive"))
        assert first[0] == 0
        with forgetful.running(database) as app:
            code, result = gymdbd_json(*_words(operation, database, place / "archive"))
            since = app.commit_more() + 1
            last = app.kill()
        begin = since if operation == ["restore"] else 1
        lost = forgetful.missing(database, begin, last)
        found = [f"{len(lost)} commits are gone: {result}"] if lost else []
        outcome = str(result.get("code")) if code else "every commit is there"
        if found := _LOST.tried(outcome, found):
            problems[" ".join(operation)] = found
        for path in [*(place / "data").iterdir(), *(place / "archive").iterdir()]:
            path.unlink()
    table.expect_none(problems)


@pytest.mark.parametrize("operations", [_BACKUPS, _RESTORES], ids=["backup", "restore"])
def test_an_idle_database_stays_its_owners(place: Path, operations: list[list[str]]) -> None:
    """For a file that only its owner may write, its group, or all."""
    problems = {}
    every = [(one, bits) for one in operations for bits in (0o640, 0o644, 0o660, 0o666)]
    for operation, bits in samples.sample(every, f"idle {operations[0]}"):
        database = make_database(place / "data" / "gym.db")
        for path in (database, place / "data"):
            os.chown(path, _APP, _APP)
        database.chmod(bits)
        (place / "data").chmod(0o770)
        user = [*_USER, f"--reuid={_OTHER}", f"--regid={_OTHER}", f"--groups={_APP}"]
        os.chown(place / "archive", _OTHER, _OTHER)
        first = gymdbd_json(*_words(["backup"], database, place / "archive"), prefix=user)
        assert first[0] == 0
        code, result = gymdbd_json(*_words(operation, database, place / "archive"), prefix=user)
        found = _what_hinders(database)
        outcome = str(result.get("code")) if code else "done"
        if found := _IDLE.tried(outcome, found):
            problems[f"{operation} {bits:o}"] = found
        for path in [*(place / "data").iterdir(), *(place / "archive").iterdir()]:
            path.unlink()
    table.expect_none(problems)


def _what_hinders(database: Path) -> list[str]:
    """Let the application start and write a row; return what it cannot."""
    found = [
        f"{database.name}{end} was left"
        for end in _SIDES
        if database.with_name(database.name + end).exists()
    ]
    words = ["setpriv", f"--reuid={_APP}", f"--regid={_APP}", "--clear-groups"]
    done = subprocess.run(
        [*words, sys.executable, "-c", _WRITE, str(database)],
        capture_output=True,
        text=True,
        check=False,
    )
    found += [done.stderr] if done.returncode else []
    if query(database, "SELECT count(*) FROM t WHERE text = 'app'") != [(1,)]:
        found.append("its row is not there")
    return found
