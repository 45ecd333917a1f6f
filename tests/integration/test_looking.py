"""Looking inside backups by the command line: nothing is restored, touched or left behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd import partials
from tests.support import samples
from tests.support.command import GYMDBD, ROOT, environment, gymdbd, gymdbd_json, require
from tests.support.databases import backups, make_database, query, tree
from tests.support.jobs import write_config
from tests.support.tables import make, read
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

_MIB = 1024 * 1024
_ROWS = 100
_SIDE_KEYS = {"path", "live", "created_at", "verdict"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a configuration whose archive holds a backup of 100 rows; the database has moved on."""
    database = make_database(tmp_path / "gym.db", rows=_ROWS)
    (tmp_path / "archive").mkdir(mode=0o700)
    job = {"schedule": "0 3 * * *", "database": "gym.db", "archive": "archive"}
    path = write_config(tmp_path, {"nightly": job})
    assert gymdbd("-c", path, "backup").returncode == 0
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t (text) VALUES ('새 회원'), ('another')")
        connection.execute("UPDATE t SET text = X'00FF' WHERE id = 7")
        connection.execute("DELETE FROM t WHERE id = 8")
    return path


def _contents(folder: Path) -> dict[str, str]:
    """Return the databases in a folder, without the index of a WAL."""
    return {name: sums for name, sums in tree(folder).items() if not name.endswith("-shm")}


def test_a_backup_is_compared_with_the_live_database_of_its_job(config: Path) -> None:
    """`latest` alone is enough; both files stay as they are, and none appears."""
    with closing(sqlite3.connect(config.parent / "gym.db")) as app:
        app.execute("SELECT count(*) FROM t").fetchone()
        before = _contents(config.parent / "archive"), (config.parent / "gym.db").read_bytes()
        done = gymdbd("-c", config, "diff", "latest")
        exit_code, answer = gymdbd_json("-c", config, "diff", "latest")
        after = _contents(config.parent / "archive"), (config.parent / "gym.db").read_bytes()
    assert (done.returncode, exit_code, answer["state"]) == (0, 0, "ok")
    assert "changes  t +2 ~1 -1" in done.stdout
    assert answer["digest"] == "t +2 ~1 -1"
    assert (set(answer["from"]), set(answer["to"])) == (_SIDE_KEYS, _SIDE_KEYS)
    assert (answer["from"]["live"], answer["to"]["live"]) == (False, True)
    assert answer["from"]["verdict"] == "verified"
    table = answer["tables"]["t"]
    assert (table["before"], table["after"], table["key"]) == (_ROWS, _ROWS + 1, ["id"])
    assert after == before


def test_the_rows_are_shown_to_people_and_given_to_programs(config: Path) -> None:
    """A changed row has its old and new value; a blob is hexadecimal in JSON."""
    done = gymdbd("-c", config, "diff", "latest", "--rows", "t")
    assert "+ id=101  text=새 회원" in done.stdout
    assert "~ id=7  text: row 6row 6" in done.stdout
    assert "-> a blob of 2 bytes" in done.stdout
    assert "- id=8  text=row 7row 7" in done.stdout
    exit_code, answer = gymdbd_json("-c", config, "diff", "latest", "--rows", "t")
    assert exit_code == 0
    assert [row["change"] for row in answer["rows"]] == ["removed", "changed", "added", "added"]
    assert answer["rows"][1]["after"] == {"text": {"blob": "00FF"}}
    assert answer["rows"][2]["after"] == {"id": 101, "text": "새 회원"}


def test_people_are_shown_some_rows_and_told_of_the_rest(tmp_path: Path) -> None:
    """A terminal gets twenty of a kind; a program gets all of them as one object."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v REAL)"
    one = make(tmp_path / "one.db", create)
    rows = [(number, float("inf")) for number in range(500)]
    other = make(tmp_path / "other.db", create, ("INSERT INTO t VALUES (?, ?)", rows))
    done = gymdbd("diff", one, other, "--rows", "t")
    assert done.stdout.count("+ id=") == 20
    assert "+ and 480 more; --json prints all" in done.stdout
    _, answer = gymdbd_json("diff", one, other, "--rows", "t")
    assert len(answer["rows"]) == 500
    assert answer["rows"][0]["after"]["v"] == {"real": "inf"}


def test_two_backups_that_are_equal_are_unchanged(config: Path) -> None:
    """By name, by path and from the archive's own folder: exit code 0, state `unchanged`."""
    (backup,) = backups(config.parent / "archive")
    for words in (
        ["-c", config, "diff", backup.name, "latest"],
        ["diff", backup, backup],
        ["diff", backup.name, "latest", "--archive", config.parent / "archive"],
    ):
        exit_code, answer = gymdbd_json(*words)
        assert (exit_code, answer["state"], answer["digest"]) == (0, "unchanged", "nothing")


def test_the_younger_one_first_is_said_to_be_so(config: Path) -> None:
    """What is added from the younger to the older has gone since."""
    done = gymdbd(
        "diff", config.parent / "gym.db", "latest", "--archive", config.parent / "archive"
    )
    assert "A is newer than B" in done.stdout
    assert "t +1 ~1 -2" in done.stdout


def test_a_raw_backup_is_compared_with_the_rows_of_its_wal(tmp_path: Path) -> None:
    """Its -wal belongs to it; neither file changes and none appears."""
    database = make_database(tmp_path / "gym.db")
    archive = tmp_path / "archive"
    with closing(sqlite3.connect(database, isolation_level=None)) as app:
        app.execute("INSERT INTO t (text) VALUES ('only in the WAL')")
        words = ["backup", "--database", database, "--archive", archive, "--raw"]
        assert gymdbd(*words, "--skip-checkpoint").returncode == 0
        before = tree(archive)
        assert any(name.endswith("-wal") for name in before)
        exit_code, answer = gymdbd_json(
            "diff", "latest", "--archive", archive, "--database", database
        )
        rescued = gymdbd("rescue", "latest", "--archive", archive, "--table", "t", "--as", "csv")
    assert (exit_code, answer["state"]) == (0, "unchanged")
    assert "only in the WAL" in rescued.stdout
    assert tree(archive) == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["diff", "nothing.db"], "backup-missing"),
        (["diff", "/nowhere/nothing.db"], "backup-missing"),
        (["diff", "latest", "--rows", "no such table"], "usage"),
        (["diff", "latest", "latest", "--database", "gym.db"], "usage"),
        (["diff", "{folder}/config.yaml", "latest"], "source-not-a-database"),
        (["diff", "{folder}/gym.db"], "usage"),
        (["rescue", "latest", "--as", "csv"], "usage"),
        (["rescue", "latest", "--as", "csv", "--table", "t", "--replace"], "usage"),
        (["rescue", "latest", "--table", "nothing"], "usage"),
        (["rescue", "latest", "--table", "t", "--where", "DROP TABLE t"], "usage"),
        (["rescue", "latest", "--table", "t", "--table", "t"], "usage"),
        (["rescue", "latest", "--table", "t", "--table", "u", "--as", "csv"], "usage"),
        (["rescue", "latest", "--table", "t", "--as", "db"], "usage"),
        (["rescue", "latest", "--table", "t", "--to", "{folder}/gym.db"], "usage"),
        (["rescue", "latest", "--table", "t", "--to", "/nowhere/t.sql"], "folder-missing"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    config: Path, words: list[str], code: str
) -> None:
    """One JSON object with a code and a hint; no file appears."""
    before = _contents(config.parent / "archive"), set(os.listdir(config.parent))  # noqa: PTH208 - names
    filled = [word.format(folder=config.parent) for word in words]
    exit_code, answer = gymdbd_json("-c", config, *filled)
    assert (exit_code, answer["code"]) == (2 if code == "usage" else 1, code)
    assert answer["hint"]
    after = _contents(config.parent / "archive"), set(os.listdir(config.parent))  # noqa: PTH208 - names
    assert {name for name in after[1] - before[1] if "gym.db-" not in name} == set()
    assert after[0] == before[0]


def test_a_row_that_is_not_written_is_named(config: Path) -> None:
    """On standard error beside the statements, in the report and in JSON; it is left as it is."""
    words = ["-c", config, "rescue", "latest", "--table", "t"]
    done = gymdbd(*words)
    assert done.stdout.count("INSERT INTO") == 1
    assert "t: id=7: exists with other values" in done.stderr
    report = gymdbd(*words, "--to", config.parent / "a.sql")
    assert "t: id=7: exists with other values" in report.stdout
    _, answer = gymdbd_json(*words, "--to", config.parent / "b.sql")
    assert answer["database"] == str(config.parent / "gym.db")
    detail = answer["details"]["t"]
    assert (detail["added"], detail["changed"], detail["taken"]) == (1, 1, 0)
    (conflict,) = detail["conflicts"]
    assert (conflict["why"], conflict["key"]) == ("changed", {"id": 7})


@pytest.mark.parametrize("known", ["config", "flag", "manifest", "nothing"])
def test_the_live_database_is_found_and_said_if_it_is_not(config: Path, known: str) -> None:
    """By the job, by --database or by the manifest; else every row is written, and that is said."""
    (backup,) = backups(config.parent / "archive")
    words: list[object] = ["rescue", backup, "--table", "t"]
    if known == "config":
        words[:0] = ["-c", config]
    elif known == "flag":
        words += ["--database", config.parent / "gym.db"]
    elif known == "nothing":
        (config.parent / "gym.db").rename(config.parent / "gone.db")
    done = gymdbd(*words)
    assert done.returncode == 0
    assert done.stdout.count("INSERT INTO") == (_ROWS if known == "nothing" else 1)
    assert ("no live database to compare with" in done.stderr) == (known == "nothing")


def test_rescued_rows_go_back_into_the_live_database(config: Path) -> None:
    """What the difference showed is gone again after the statements are applied."""
    words = ["-c", config, "rescue", "latest", "--table", "t", "--where", "id IN (7, 8)"]
    for flags, expected in (([], "t +2 ~1 -0"), (["--replace"], "t +2")):
        done = gymdbd(*words, *flags)
        with closing(sqlite3.connect(config.parent / "gym.db")) as connection:
            connection.executescript(done.stdout)
        _, answer = gymdbd_json("-c", config, "diff", "latest")
        assert answer["digest"] == expected


@pytest.mark.parametrize("form", ["sql", "csv", "db"])
def test_a_file_of_rescued_rows_is_its_owners_and_not_overwritten(config: Path, form: str) -> None:
    """Mode 0600, no partial left; an existing file stays unless --force is given."""
    target = config.parent / f"rescued.{form}"
    words = ["-c", config, "rescue", "latest", "--table", "t", "--as", form, "--to", target]
    exit_code, answer = gymdbd_json(*words)
    written = 1 if form == "sql" else _ROWS  # What the live database lacks, or all.
    assert (exit_code, answer["tables"], answer["path"]) == (0, {"t": written}, str(target))
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in config.parent.iterdir() if "partial" in path.name] == []
    target.write_bytes(b"mine")
    exit_code, answer = gymdbd_json(*words)
    assert (exit_code, target.read_bytes()) == (2, b"mine")
    assert "--force" in answer["hint"]
    assert gymdbd_json(*words, "--force")[0] == 0
    if form == "db":
        (backup,) = backups(config.parent / "archive")
        assert read(target, "t") == read(backup, "t")
        assert query(target, "PRAGMA integrity_check") == [("ok",)]


def test_a_rescue_beside_a_foreign_wal_is_refused(config: Path) -> None:
    """A -wal beside the name of the new database would be replayed into it."""
    target = config.parent / "rescued.db"
    target.with_name("rescued.db-wal").write_bytes(b"x")
    words = ["rescue", "latest", "--table", "t", "--as", "db", "--to", target, "--force"]
    exit_code, answer = gymdbd_json("-c", config, *words)
    assert (exit_code, target.exists()) == (2, False)
    assert "rescued.db-wal" in answer["error"]


def test_a_rescue_that_fails_leaves_no_file(config: Path) -> None:
    """Not even a hidden one."""
    target = config.parent / "rescued.sql"
    failing = "CASE WHEN id < 50 THEN 1 ELSE abs(-9223372036854775807 - 1) END"
    words = ["rescue", "latest", "--table", "t", "--where", failing, "--to", target]
    exit_code, _ = gymdbd_json("-c", config, *words)
    assert exit_code == 2
    assert [path.name for path in config.parent.iterdir() if "rescued" in path.name] == []


def test_a_backup_is_not_replaced_by_its_own_rows(config: Path) -> None:
    """Not even with --force."""
    (backup,) = backups(config.parent / "archive")
    before = tree(backup.parent)
    words = ["rescue", backup, "--table", "t", "--as", "db", "--to", backup, "--force"]
    assert gymdbd_json(*words)[0] == 2
    assert tree(backup.parent) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_condition_without_end_can_be_stopped(config: Path, number: signal.Signals) -> None:
    """Exit code 1 within a moment, and no file is left."""
    numbers = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n)"
    endless = f"({numbers} SELECT count(*) FROM n)"
    target = config.parent / "rescued.sql"
    words = ["-c", config, "rescue", "latest", "--table", "t", "--where", endless, "--to", target]
    with subprocess.Popen(
        [*GYMDBD, *map(str, words)], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: partials.left(config.parent), "the file is being written")
        process.send_signal(number)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (1, f"gymdbd: stopped by {number.name}\n")
    assert partials.left(config.parent) == []
    assert not target.exists()


def _make_pair(folder: Path, size_mib: int) -> tuple[Path, Path]:
    """Make two databases of about `size_mib` MiB each that differ in every twentieth row."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)"
    keyed = "CREATE TABLE k (name TEXT PRIMARY KEY, v TEXT) WITHOUT ROWID"
    fill = (
        "INSERT INTO {} WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT {}) "
        "SELECT {}, printf('%0200d', x) FROM n"
    )
    rows = size_mib * _MIB // 220 // 2
    one = make(folder / "one.db", create, keyed, fill.format("t", rows, "x"))
    with closing(sqlite3.connect(one)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(fill.format("k", rows, "printf('%08d', x)"))
        connection.commit()
    other = folder / "other.db"
    other.write_bytes(one.read_bytes())
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("UPDATE t SET v = 'new' WHERE id % 20 = 0")
        connection.execute("DELETE FROM k WHERE name LIKE '%7'")
        connection.commit()
    return one, other


def _peak_mib(*words: object, output: Path) -> float:
    """Run gymdbd in a child of a child and return the most memory that it held."""
    script = (
        "import resource, subprocess, sys\n"
        "with open(sys.argv[1], 'wb') as output:\n"
        "    subprocess.run(sys.argv[2:], stdout=output, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(output), *GYMDBD, *map(str, words)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit / _MIB


def test_a_large_pair_needs_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    """All verbs and forms, every row given, within 16 MiB of what they need for next to nothing."""
    folders = {name: tmp_path / name for name in ("small", "large")}
    peaks: dict[str, list[float]] = {}
    for name, size_mib in (("small", 1), ("large", samples.count(32, of=128))):
        folders[name].mkdir()
        one, other = _make_pair(folders[name], size_mib)
        assert abs(one.stat().st_size / _MIB - size_mib) < size_mib / 2
        output = folders[name] / "output"
        peaks[name] = [
            _peak_mib("diff", one, other, output=output),
            _peak_mib("diff", one, other, "--rows", "k", "--json", output=output),
            _peak_mib("rescue", one, "--table", "t", output=output),
            _peak_mib(
                *("rescue", one, "--table", "k", "--as", "db", "--to", folders[name] / "to.db"),
                output=output,
            ),
        ]
    grown = [large - small for small, large in zip(peaks["small"], peaks["large"], strict=True)]
    assert max(grown) < 16, peaks


@pytest.mark.parametrize("kind", [bytes, str])
def test_a_large_row_takes_no_more_than_three_times_its_size(
    tmp_path: Path, kind: type[bytes | str]
) -> None:
    """Compared and rescued in each form, a blob as well as a text with letters of its own."""
    size = 24 * _MIB
    create, insert = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, ?)"
    before: bytes | str = b"a" * size if kind is bytes else "é" * (size // 2 - 1) + "😀"
    after: bytes | str = b"b" * size if kind is bytes else "ü" * (size // 2)
    empty, output = make(tmp_path / "empty.db", create), tmp_path / "output"
    one = make(tmp_path / "one.db", create, (insert, [(before,)]))
    other = make(tmp_path / "other.db", create, (insert, [(after,)]))
    to = ("--to", tmp_path / "to")
    peaks = [
        _peak_mib(*words, output=output)
        for words in (
            ("diff", empty, empty),
            ("diff", one, other, "--rows", "t", "--json"),
            ("rescue", one, "--table", "t", "--database", other, "--replace"),
            ("rescue", one, "--table", "t", "--as", "csv"),
            ("rescue", one, "--table", "t", "--as", "db", *to),
        )
    ]
    assert max(peaks) - peaks[0] < 3 * size / _MIB, peaks


@pytest.mark.parametrize("value", ["X'00FF'", "'한\n''\"'"])
def test_a_large_value_comes_back_as_it_was(tmp_path: Path, value: str) -> None:
    """In JSON, as statements, as CSV and as a database: a blob, and a text with all that is odd."""
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
    data: bytes | str = b"\x00\xff" * 3_000_000 if "X" in value else "한\n'\"" * 1_500_000
    one = make(tmp_path / "one.db", create, ("INSERT INTO t VALUES (1, ?)", [(data,)]))
    live = make(tmp_path / "live.db", create)
    _, answer = gymdbd_json("diff", one, live, "--rows", "t")
    given = answer["rows"][0]["before"]["v"]
    assert (bytes.fromhex(given["blob"]) if isinstance(given, dict) else given) == data
    for form in ("sql", "csv", "db"):
        words = ["rescue", one, "--table", "t", "--as", form, "--to", tmp_path / f"to.{form}"]
        assert gymdbd(*words, *(["--database", live] if form == "sql" else [])).returncode == 0
    script = (tmp_path / "to.sql").read_bytes()
    subprocess.run([require("sqlite3"), "-bail", live], input=script, check=True, timeout=60)
    assert read(live, "t") == read(tmp_path / "to.db", "t") == read(one, "t")
    field = (tmp_path / "to.csv").read_bytes().decode().partition("\r\n1,")[2][:-2]
    as_text = f"X'{data.hex().upper()}'" if isinstance(data, bytes) else data.replace('"', '""')
    assert field == (as_text if isinstance(data, bytes) else f'"{as_text}"')


@pytest.mark.parametrize(
    "definition", ["c0 INTEGER", "c0 INTEGER PRIMARY KEY", "c0 TEXT PRIMARY KEY"]
)
@pytest.mark.parametrize("width", [1_200, 2_000])
def test_as_many_columns_as_sqlite_allows_are_shown_and_rescued(
    tmp_path: Path, definition: str, width: int
) -> None:
    """SQLite gives no more than 2,000 at once, and a changed row has twice as many."""
    columns = ", ".join([definition, *(f"c{at}" for at in range(1, width))])
    values = ", ".join(["{}", *("1" for _ in range(1, width))])
    rows = [f"INSERT INTO w VALUES ({values.format(key)})" for key in (1, 2, 3)]
    create = f"CREATE TABLE w ({columns})"
    one = make(tmp_path / "one.db", create, *rows)
    live = make(
        tmp_path / "live.db",
        create,
        *rows,
        "UPDATE w SET c7 = 99 WHERE c0 = 1",
        "DELETE FROM w WHERE c0 = 2",
    )
    _, answer = gymdbd_json("diff", one, live, "--rows", "w")
    assert [row["change"] for row in answer["rows"]] == ["removed", "changed"]
    assert (answer["rows"][1]["before"], answer["rows"][1]["after"]) == ({"c7": 1}, {"c7": 99})
    for form in ("sql", "db"):
        words = ["rescue", one, "--table", "w", "--as", form, "--to", tmp_path / f"to.{form}"]
        assert gymdbd(*words, *(["--database", live] if form == "sql" else [])).returncode == 0
    script = (tmp_path / "to.sql").read_bytes()
    subprocess.run([require("sqlite3"), "-bail", live], input=script, check=True, timeout=60)
    assert query(live, "SELECT c0, c7 FROM w ORDER BY c0 + 0") == [
        (kept, 99 if number == 1 else 1)
        for number, (kept,) in enumerate(query(one, "SELECT c0 FROM w ORDER BY c0 + 0"), 1)
    ]
    assert read(tmp_path / "to.db", "w") == read(one, "w")
