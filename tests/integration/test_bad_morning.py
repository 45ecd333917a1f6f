"""The README's picture of a bad morning, acted."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

from tests.support import guides
from tests.support.command import GYMDBD, environment, gymdbd
from tests.support.databases import query

if TYPE_CHECKING:
    from pathlib import Path

_MEMBERS = 344
_LEFT = 12


def _gym(folder: Path) -> Path:
    database = folder / "instance" / "gym_system.db"
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE members (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE TABLE rentals (id INTEGER PRIMARY KEY, locker INTEGER)")
        names = [(f"회원 {number}",) for number in range(_MEMBERS)]
        connection.executemany("INSERT INTO members (name) VALUES (?)", names)
        connection.executemany("INSERT INTO rentals (locker) VALUES (?)", [(1,), (2,)])
    return database


def _configuration(folder: Path, database: Path) -> Path:
    (folder / "archive").mkdir()
    path = folder / "config.yaml"
    path.write_text(
        f"status_file: {folder}/status.json\njobs:\n  nightly-backup:\n    kind: backup\n"
        f"    schedule: '0 3 * * *'\n    database: {database}\n    archive: {folder}/archive\n"
    )
    path.chmod(0o600)
    return path


def test_the_bad_morning_of_the_readme_turns_good(tmp_path: Path) -> None:
    """Each command prints what is shown there, but for times, and in the end no row is lost."""
    database = _gym(tmp_path)
    config = _configuration(tmp_path, database)
    assert gymdbd("-c", config, "backup").returncode == 0
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DELETE FROM members WHERE id > ?", (_LEFT,))
        connection.executemany("INSERT INTO rentals (locker) VALUES (?)", [(3,), (4,)])
    picture = re.search(
        r"^```\n(\$ gymdbd diff.*?)^```$", guides.read("README.md"), re.MULTILINE | re.DOTALL
    )
    assert picture is not None
    for scene in picture[1].split("$ ")[1:]:
        line, *shown = scene.splitlines()
        words = line.replace("gymdbd", shlex.join(GYMDBD), 1) if line.startswith("gymdbd") else line
        done = subprocess.run(
            ["bash", "-c", words],
            cwd=tmp_path,
            env=environment(GYMDBD_CONFIG=str(config)),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (line, done.returncode) == (line, 0), done.stderr
        printed = done.stdout.replace(f"{tmp_path}/", "").splitlines()
        told = [text for text in shown if text != "..." and "_backup_" not in text]
        assert [text for text in told if text not in printed] == [], done.stdout
    counts = "SELECT (SELECT count(*) FROM members), (SELECT count(*) FROM rentals)"
    assert query(database, counts) == [(_MEMBERS, 4)]
