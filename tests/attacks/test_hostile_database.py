"""A database that was made to do harm takes no more memory and time than any other."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gymdbd.source import database
from gymdbd.source.counting import count_rows
from gymdbd.source.format import WAL, beside
from gymdbd.source.schema import read_facts
from gymdbd.sqlite import opening, soundness
from tests.attacks import databases
from tests.support.command import GYMDBD, environment
from tests.support.databases import make_database, sqlite_elsewhere
from tests.support.waiting import until

# What any verb has: a few times of what it needs, and a hundredth of what these databases ask for.
MEMORY = 400 * 1024 * 1024
SECONDS = 20


def limited(*words: object, memory: int = MEMORY) -> subprocess.CompletedProcess[str]:
    """Run gymdbd within limits of the system on memory, processor time and the size of files."""
    limits = [f"--as={memory}", f"--cpu={SECONDS}", f"--fsize={64 * 1024 * 1024}"]
    return subprocess.run(
        ["prlimit", *limits, "--", *GYMDBD, *map(str, words)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("expression", [databases.GIGABYTES, databases.HOURS])
@pytest.mark.parametrize("kind", databases.DEFINITIONS)
def test_an_expression_that_asks_for_gigabytes_or_hours_makes_nothing_damaged(
    kind: str, expression: str, tmp_path: Path
) -> None:
    """An index, a constraint, a column, a view or a trigger may hold it."""
    path = databases.with_expression(tmp_path / "gym.db", kind, expression)

    with opening.reading(path) as connection:
        found = soundness.check(connection)
        rows = count_rows(connection, read_facts(connection))
        keys = soundness.foreign_keys(connection)

    assert (found.problems, keys.violations) == ((), ())
    assert rows["t"] == 3
    if kind in ("index", "partial index", "generated column"):
        assert "too big" in found.unchecked[0]


@pytest.mark.parametrize("make", databases.LOOPS.values(), ids=databases.LOOPS)
def test_pages_that_point_at_themselves_are_damage(make: databases.Maker, tmp_path: Path) -> None:
    """A free page, a page of a tree and one of a long value lead SQLite round in no circle."""
    path = make(tmp_path / "gym.db")

    with opening.reading(path) as connection:
        assert soundness.check(connection).problems
    with opening.reading(path) as connection:
        assert soundness.check(connection, quick=True).problems


@pytest.mark.parametrize("kind", ["index", "generated column"])
def test_verify_cannot_check_such_an_expression_and_does_not_call_the_backup_damaged(
    kind: str, tmp_path: Path
) -> None:
    """Too big is not damaged, within the memory and the time that any backup takes."""
    archive = tmp_path / "backups"
    archive.mkdir()
    databases.with_expression(archive / "gym_backup_20261123_030000.db", kind, databases.GIGABYTES)

    done = limited("verify", "--archive", archive, "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = json.loads(done.stdout)["backups"]
    assert found["problems"] == []
    assert "too big" in " ".join(found["remarks"])


def test_every_connection_distrusts_the_schema_and_the_pages(tmp_path: Path) -> None:
    """No function of an application is called from a schema, and impossible cells are damage."""
    path = make_database(tmp_path / "gym.db", mode="delete")
    asked = ("trusted_schema", "cell_size_check")
    found = []
    for opened in (
        contextlib.closing(database.open_copy(path, write=True)),
        opening.reading(path),
        opening.reading_live(path),
        opening.writing(path),
    ):
        with opened as connection:
            found.append([connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked])
    assert found == [[0, 1]] * 4


def test_a_value_in_the_wal_is_not_too_big(tmp_path: Path) -> None:
    """The bound is the size of both files: what is stored in either can be read."""
    path, copy = make_database(tmp_path / "gym.db"), tmp_path / "copy.db"
    with sqlite_elsewhere(path, "UPDATE t SET text = hex(zeroblob(1000000)) WHERE id = 1"):
        shutil.copy(path, copy)
        shutil.copy(beside(path, WAL), beside(copy, WAL))
    with opening.reading(copy, has_wal=True) as connection:
        text = connection.execute("SELECT text FROM t WHERE id = 1").fetchone()[0]
    assert len(text) == 2_000_000


def test_many_values_at_once_take_half_of_the_memory(tmp_path: Path) -> None:
    """None of them is too big. SQLite is denied more, and what it could not check is told."""
    backup = databases.with_many_values(tmp_path / "gym_backup_20261123_030000.db")
    script = (
        "import json, sys; from pathlib import Path\n"
        "from gymdbd.sqlite import opening, soundness\n"
        "with opening.reading(Path(sys.argv[1])) as connection:\n"
        "    found = soundness.check(connection)\n"
        # What getrusage(2) tells is inherited from the process of the tests.
        "status = Path('/proc/self/status').read_text()\n"
        "most = int(status.partition('VmHWM:')[2].split()[0]) * 1024\n"
        "print(json.dumps([found.problems, found.unchecked, most]))\n"
    )
    done = subprocess.run(
        ["prlimit", f"--as={MEMORY}", "--", sys.executable, "-c", script, str(backup)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    problems, unchecked, most = json.loads(done.stdout)
    assert problems == []
    assert "out of memory" in unchecked[0]
    assert most < 0.75 * MEMORY


def test_a_definition_of_many_odd_words_is_judged_within_seconds() -> None:
    """Each word that is nearly a keyword might be the one that is damaged."""
    script = (
        "from gymdbd.source import answers\n"
        "words = ', '.join(['a COLLATX b'] * 100_000)\n"
        "definition = f'CREATE TABLE t (a CHECK (a IN ({words})))'\n"
        "print(answers.is_intact(definition, 'near \"COLLATX\": syntax error'))\n"
    )
    done = subprocess.run(
        ["prlimit", f"--cpu={SECONDS}", "--", sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("verb", "number"),
    [("verify", signal.SIGTERM), ("restore --dry-run --to new.db", signal.SIGINT)],
)
def test_a_step_of_hours_is_ended_by_a_signal(
    verb: str, number: signal.Signals, tmp_path: Path
) -> None:
    """SQLite calls nobody meanwhile, and Python's own handlers wait for it."""
    backup = databases.with_an_endless_step(tmp_path / "gym_backup_20261123_030000.db")
    words, *options = verb.split()
    command = [*GYMDBD, words, str(backup), *options]
    with subprocess.Popen(
        command, env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            until(lambda: _seconds_used(process.pid) > 2, "SQLite to be at it", within_s=60)
            process.send_signal(number)
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert told == f"gymdbd: ended by {number.name} in the middle of a step\n"
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def _seconds_used(pid: int) -> float:
    """Return how much processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
