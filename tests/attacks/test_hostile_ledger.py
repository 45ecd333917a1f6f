"""A ledger that somebody else has filled, or put something else in the place of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd.runs import ledger
from tests.support.command import gymdbd
from tests.support.databases import make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMORY = 400 * 1024 * 1024
_CPU_S = 20
_GOOD = (
    '{"job": "nightly", "state": "ok", "first": "2026-11-28T03:00:00+00:00", '
    '"last": "2026-11-28T03:00:01+00:00", "count": 1}\n'
)


def _config(folder: Path) -> Path:
    database = make_database(folder / "gym.db")
    (folder / "archive").mkdir(mode=0o700)
    place = {"database": str(database), "archive": str(folder / "archive")}
    return write_config(folder, {"nightly": {"kind": "backup", "schedule": "0 3 * * *", **place}})


def _limited(*words: object) -> tuple[int, str, str]:
    """Run a verb with bounds of memory and processor time."""
    limits = ["prlimit", f"--as={_MEMORY}", f"--cpu={_CPU_S}"]
    done = gymdbd(*words, prefix=limits)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "[" * 60000,
        '{"job": ' * 10000,
        '{"job": "nightly", "count": ' + "9" * 50000 + "}",
        _GOOD.replace('"count": 1', '"count": 1e999')[:-1],
        _GOOD.replace('"count": 1', '"count": true')[:-1],
        _GOOD.replace('"count": 1', '"rows": {"a": "b"}')[:-1],
        _GOOD.replace("2026-11-28", "9999-99-99")[:-1],
        "\0" * 5000,
        "x" * (200 * 1024),
    ],
    ids=["deep", "open", "digits", "infinite", "true", "rows", "day", "nul", "long"],
)
def test_a_line_that_somebody_made_is_left_out_and_the_others_are_shown(
    tmp_path: Path, line: str
) -> None:
    """In bounded memory and time; and a run adds its line all the same."""
    config = _config(tmp_path)
    (tmp_path / ledger.NAME).write_text(f"{_GOOD}{line}\n{_GOOD}")

    code, out, err = _limited("-c", config, "runs", "--days", "400", "--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["jobs"]["nightly"]["lines"]) == 2
    assert _limited("-c", config, "backup")[0] == 0
    assert ledger.read(tmp_path / ledger.NAME)[-1].rows == {"t": 100}


def test_control_characters_of_a_reason_do_not_reach_the_terminal(tmp_path: Path) -> None:
    """They would move the cursor, or look like another line."""
    config = _config(tmp_path)
    error = "\\u001b[2Jgone\\nnightly-backup ok\\u202e"
    bad = _GOOD.replace('"ok"', f'"failed", "error": "{error}"')
    (tmp_path / ledger.NAME).write_text(bad)

    code, out, _ = _limited("-c", config, "runs", "--days", "400")

    assert (code, "\x1b" in out, "\u202e" in out) == (0, False, False)
    assert "failed: \\x1b[2Jgone\\nnightly-backup ok\\u202e" in out


def _hard_link(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("mine\n")
    os.link(other, path)


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path.with_name("other")), _hard_link],
    ids=["pipe", "folder", "link", "hard link"],
)
def test_something_else_in_its_place_is_neither_followed_nor_waited_for(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """The run is done and recorded in the status file; its log says what is wrong."""
    config = _config(tmp_path)
    other = tmp_path / "other"
    other.write_text("mine\n")
    other.unlink()
    make(tmp_path / ledger.NAME)
    if other.exists() or (tmp_path / ledger.NAME).is_symlink():
        other.write_text("mine\n")

    code, _, err = _limited("-c", config, "backup")

    assert (code, ledger.NAME in err) == (0, True)
    assert not other.exists() or other.read_text() == "mine\n"
    assert json.loads((tmp_path / "status.json").read_text())["jobs"]["nightly"]["state"] == "ok"


def test_a_ledger_of_many_gigabytes_is_made_small_again(tmp_path: Path) -> None:
    """A file with a hole costs its writer nothing; the next run goes on with its newest part."""
    config = _config(tmp_path)
    path = tmp_path / ledger.NAME
    path.write_text(_GOOD)
    os.truncate(path, 64 * 2**30)
    with path.open("a") as file:
        file.write(f"\n{_GOOD}")

    assert _limited("-c", config, "backup")[0] == 0

    assert path.stat().st_size <= ledger.MOST_BYTES
    assert [line.count for line in ledger.read(path)] == [1, 1]
