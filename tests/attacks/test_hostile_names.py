"""Names that were made to mislead whoever reads them: shown escaped, wherever they are shown."""

from __future__ import annotations

import csv
import io
import json
import socket
import sqlite3
import subprocess
import sys
import unicodedata
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gymdbd import words
from tests.support.command import GYMDBD, environment, gymdbd, gymdbd_json, require
from tests.support.databases import query
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

# A line break, a sequence that clears the screen, and one that turns what follows around.
_BAD = "a\nDROP TABLE b; --\x1b[2J\u202ebd.\x9b"
_SHOWN = r"a\nDROP TABLE b; --\x1b[2J\u202ebd.\x9b"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a configuration of a database in which, and around which, the names are bad."""
    with closing(sqlite3.connect(tmp_path / "gym.db", isolation_level=None)) as made:
        made.execute(f'CREATE TABLE "{_BAD}" (id INTEGER PRIMARY KEY, "{_BAD}" TEXT)')
        made.execute(f'INSERT INTO "{_BAD}" VALUES (1, ?)', [_BAD])
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    (tmp_path / f"{_BAD}.db").write_bytes((tmp_path / "gym.db").read_bytes())
    common = {"schedule": "0 3 * * *", "archive": "archive"}
    jobs = {
        "nightly": {**common, "database": "gym.db"},
        "odd": {**common, "database": f"{_BAD}.db"},
        "missing": {**common, "database": f"missing {_BAD}"},
    }
    log = {"format": "json", "file": str(tmp_path / "log")}
    write_config(tmp_path, jobs, log=log)
    return tmp_path


def _misleading(text: str) -> set[str]:
    """Return the characters that a terminal would act on, but for the end of a line."""
    return {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf")} - {"\n"}


def test_no_output_log_or_status_has_a_character_that_acts_on_a_terminal(place: Path) -> None:
    """Each shows the names escaped, and none of their lines is a line of its own."""
    config = place / "config.yaml"
    said = ""
    for verb in (
        ("backup", "nightly"),
        ("backup", "odd"),
        ("backup", "missing"),
        ("list",),
        ("check",),
        ("diff", "latest", "--database", place / "gym.db"),
        ("restore", "latest", "--database", place / "gym.db", "--to", place / f"new {_BAD}"),
        ("status",),
    ):
        done = gymdbd("-c", config, *verb)
        said += done.stdout + done.stderr
    assert _misleading(said) == set()
    assert (_SHOWN in said, [line for line in said.splitlines() if line.startswith("DROP")]) == (
        True,
        [],
    )
    for name in ("status.json", "log"):
        text = (place / name).read_text()
        assert _misleading(text) == set(), name
    # A program reads the names as they are.
    events = [json.loads(line) for line in (place / "log").read_text().splitlines()]
    assert any(_BAD in str(event.get("path")) for event in events)


def test_a_log_on_a_terminal_shows_them_escaped(place: Path) -> None:
    """The daemon's own, as text."""
    path = place / "config.yaml"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "log": {"format": "console", "level": "debug"}}))
    done = gymdbd("-c", path, "backup", "odd", NO_COLOR="1")
    assert _misleading(done.stderr) == set()


def test_a_script_shows_them_escaped_in_its_comments_and_writes_them_as_they_are(
    place: Path,
) -> None:
    """The rows come back into the table of that name."""
    require("sqlite3")
    done = gymdbd("rescue", place / "gym.db", "--to", place / "x.sql")
    assert done.returncode == 0, done.stderr
    script = (place / "x.sql").read_text()
    comments = [line for line in script.splitlines() if line.startswith("--")]
    assert _misleading("".join(comments)) == set()
    assert any("mislead the eye" in line and _SHOWN in line for line in comments)
    with closing(sqlite3.connect(place / "new.db")) as made:
        made.execute(f'CREATE TABLE "{_BAD}" (id INTEGER PRIMARY KEY, "{_BAD}" TEXT)')
    with (place / "x.sql").open() as lines:
        subprocess.run(["sqlite3", "-bail", place / "new.db"], stdin=lines, check=True)
    assert query(place / "new.db", f'SELECT * FROM "{_BAD}"') == [(1, _BAD)]


def test_a_name_that_sqlite3_cannot_read_from_a_script_is_left_out_of_it(tmp_path: Path) -> None:
    """It drops the CR of a CR LF: the rows would go into a table of another name."""
    with closing(sqlite3.connect(tmp_path / "gym.db", isolation_level=None)) as made:
        for name in ("a\r\nb", "a\nb"):
            made.execute(f'CREATE TABLE "{name}" (id INTEGER PRIMARY KEY)')
            made.execute(f'INSERT INTO "{name}" VALUES (7)')
    code, answer = gymdbd_json("rescue", tmp_path / "gym.db", "--to", tmp_path / "x.sql")
    assert (code, answer["tables"]) == (0, {"a\nb": 1})
    said = "a script cannot hold a name with CR and LF (--as db can)"
    assert answer["left_out"] == [f"a\r\nb: {said}"]
    named = ("rescue", tmp_path / "gym.db", "--table", "a\r\nb", "--to", tmp_path / "y.sql")
    assert gymdbd_json(*named)[0] == 2
    done = gymdbd("rescue", tmp_path / "gym.db", "--as", "db", "--to", tmp_path / "x.db")
    assert (done.returncode, query(tmp_path / "x.db", 'SELECT * FROM "a\r\nb"')) == (0, [(7,)])


def test_the_header_of_a_csv_shows_them_escaped(place: Path) -> None:
    """A cell of the data is as it is."""
    done = gymdbd("rescue", place / "gym.db", "--as", "csv", "--table", _BAD)
    rows = list(csv.reader(io.StringIO(done.stdout, newline="")))
    assert rows[0] == ["id", _SHOWN]


def test_a_csv_for_a_spreadsheet_holds_nothing_that_it_would_run(tmp_path: Path) -> None:
    """Such a text begins with an apostrophe, a large one too; numbers stay numbers."""
    values = ['=HYPERLINK("x")', "+1", "-1", "@a", "\t=1", "\uff1d1", "plain", -1]
    values.append("=" + "x" * 3_000_000)
    with closing(sqlite3.connect(tmp_path / "gym.db", isolation_level=None)) as made:
        made.execute('CREATE TABLE t (id INTEGER PRIMARY KEY, "=1")')
        made.executemany("INSERT INTO t VALUES (NULL, ?)", [(value,) for value in values])
    options = ("rescue", tmp_path / "gym.db", "--as", "csv", "--table", "t", "--force", "--to")
    assert gymdbd(*options, tmp_path / "x.csv").returncode == 0
    assert gymdbd(*options, tmp_path / "guarded.csv", "--spreadsheet").returncode == 0
    shown = {}
    for name in ("x.csv", "guarded.csv"):
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            csv.field_size_limit(10**7)
            shown[name] = [row[1] for row in csv.reader(file)]
    exact = ["=1", *map(str, values)]
    assert shown["x.csv"] == exact
    safe = ("plain", -1)
    expected = ["'=1", *(str(value) if value in safe else f"'{value}" for value in values)]
    assert shown["guarded.csv"] == expected
    assert gymdbd("rescue", tmp_path / "gym.db", "--spreadsheet").returncode == 2


def test_completion_offers_no_name_that_a_terminal_would_act_on(place: Path) -> None:
    """It is left out: the shell would put it into the line."""
    assert gymdbd("-c", place / "config.yaml", "backup", "odd").returncode == 0
    assert gymdbd("-c", place / "config.yaml", "backup", "nightly").returncode == 0
    line = f"gymdbd keep --archive {place / 'archive'} "
    asked = environment(
        _ARGCOMPLETE="1", COMP_LINE=line, COMP_POINT=str(len(line)), _ARGCOMPLETE_STDOUT_FILENAME=""
    )
    file = place / "offered"
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(file)
    subprocess.run(GYMDBD, env=asked, capture_output=True, check=False)
    offered = file.read_text().split("\v")
    assert [name for name in offered if name.startswith("gym_")] != []
    assert _misleading(file.read_text()) - {"\v"} == set()


def test_no_name_adds_a_line_to_what_systemd_is_told(tmp_path: Path) -> None:
    """A line such as MAINPID= would be obeyed."""
    script = "from gymdbd.daemon.systemd import Notifier; Notifier().status('a\\nMAINPID=1')"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        told = environment(NOTIFY_SOCKET=str(tmp_path / "notify"))
        subprocess.run([sys.executable, "-c", script], env=told, check=True)
        assert systemd.recv(1000) == rb"STATUS=a\nMAINPID=1"


@pytest.mark.parametrize("value", [_BAD, {_BAD: [_BAD]}, "\U000e0001", "\udc80", "회원", "a b"])
def test_json_has_the_names_as_they_are_in_characters_that_do_no_harm(value: object) -> None:
    """Also those outside the first plane, and bytes that are no UTF-8."""
    for indent in (None, 1):
        text = words.json_text(value, indent)
        assert (json.loads(text), _misleading(text)) == (value, set())
        text.encode()
