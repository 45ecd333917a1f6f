"""`gymdbd list`: what each archive holds, one backup in a line, and the newest last."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.archive import marks
from gymdbd.archive.manifest import manifest_path
from gymdbd.clock import Clock
from tests.support.archives import add_backup, fill, index_all
from tests.support.command import GYMDBD, environment, gymdbd, gymdbd_json
from tests.support.jobs import write_config
from tests.support.person import typing

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

_ZONE = Clock().zone
_NOON = Clock().now().astimezone(_ZONE).replace(hour=12, minute=0, second=0, microsecond=0)
_NARROW = 80


def _at(days_ago: int, hour: int = 12) -> datetime:
    """Return an hour of a day, on the clocks of this machine."""
    return (_NOON - timedelta(days=days_ago)).replace(hour=hour, tzinfo=_ZONE)


def _add(folder: Path, made: datetime, stem: str = "gym_system", **changes: Any) -> str:
    """Add a backup, and return its name."""
    path = folder / f"{stem}_backup_{made:%Y%m%d_%H%M%S}.db"
    add_backup(path, **{"created_at": made.isoformat(), **changes})
    return path.name


def _lines(*words: object, zone: str | None = None) -> list[str]:
    done = gymdbd("list", *words, TZ=zone) if zone else gymdbd("list", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def _names(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines if "_backup_" in line.split(" ")[0]]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive whose path is longer than any terminal is wide."""
    folder = tmp_path / ("a-folder-with-a-long-name-" * 8)
    folder.mkdir()
    return folder


@pytest.fixture
def week(archive: Path) -> list[str]:
    """Give the names of two backups of each of four past days, the newest last."""
    return [_add(archive, _at(days, hour)) for days in (9, 8, 7, 6) for hour in (3, 15)]


def test_the_archive_is_a_heading_and_each_backup_a_line_with_the_newest_last(
    archive: Path, week: list[str]
) -> None:
    """In a pipe; with a size, the rows, a verdict and an age, none is wider than 80 columns."""
    lines = _lines("--archive", archive)
    assert lines[0] == str(archive)
    assert lines[1].split() == ["backup", "size", "rows", "verdict", "proven", "note"]
    assert _names(lines) == week
    assert [line.split()[1:5] for line in lines[3:-1]] == [["8.0", "KiB", "344", "verified"]] * 8
    assert max(map(len, lines[1:])) <= _NARROW
    assert "".join(lines).count(str(archive)) == 1


def test_a_terminal_shows_what_a_pipe_does(archive: Path, week: list[str], tmp_path: Path) -> None:
    """On one of eighty columns nothing is folded, cut or put into another order."""
    words = ("list", "--archive", archive)
    with typing(*words, cwd=tmp_path, environment=environment(COLUMNS="80")) as person:
        assert person.end() == 0
    assert _names(person.said.splitlines()) == week
    assert person.said.splitlines() == _lines("--archive", archive)


def test_last_shows_the_newest_of_each_database(archive: Path, week: list[str]) -> None:
    """The end says of how many; a program gets the same, the newest first as ever."""
    other = [_add(archive, _at(days), "shop", source="/srv/shop.db") for days in (3, 2, 1)]
    lines = _lines("--archive", archive, "--last", 2)
    assert _names(lines) == [*other[-2:], *week[-2:]]
    assert lines[-1].startswith("4 of 11 backups; ")
    _, told = gymdbd_json("list", "--archive", archive, "--last", "2")
    expected = [*other[:0:-1], *week[:-3:-1]]
    assert [one["path"].rpartition("/")[2] for one in told["backups"]] == expected


def test_since_shows_what_has_come_since(archive: Path, week: list[str]) -> None:
    """From that moment on, itself included; with --last, the newest of these."""
    since = ("--since", _at(7, 3).isoformat())
    assert _names(_lines("--archive", archive, *since)) == week[-4:]
    assert _names(_lines("--archive", archive, *since, "--last", "3")) == week[-3:]


def test_since_a_moment_without_backups_names_the_newest(archive: Path, week: list[str]) -> None:
    """An empty table would leave open whether there are any; a program gets an empty list."""
    lines = _lines("--archive", archive, "--since", "2d")
    assert lines[1].startswith("none since ")
    assert f"; the newest is {week[-1]}, " in lines[1]
    assert lines[2].startswith("0 of 8 backups; ")
    assert gymdbd_json("list", "--archive", archive, "--since", "2d")[1]["backups"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--last", "0"), "--last is to be at least 1"),
        (("--last", "-1"), "expected a whole number"),
        (("--since", "2100-01-01"), "which has not come yet"),
        (("--since", "the other day"), "no time is called 'the other day'"),
    ],
)
def test_a_number_or_a_time_that_makes_no_sense_is_refused(
    archive: Path, words: tuple[str, str], said: str
) -> None:
    """With what to do, and before anything is printed."""
    done = gymdbd("list", "--archive", archive, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "What to do: " in done.stderr


def test_by_day_is_a_line_for_each_day_of_the_clocks_here(archive: Path) -> None:
    """With how many, their sizes, the newest, and the verdicts; in Seoul the day is another."""
    for hour in (1, 14, 16, 20):
        made = _NOON.replace(year=2026, month=11, day=20, hour=hour)
        _add(archive, made, created_at=f"2026-11-20T{hour:02}:00:00+00:00", tables={"t": hour})
    marks.change(next(archive.glob("*_160000.db")), problems=["its manifest has another md5"])
    words = ("--archive", archive, "--by-day")
    lines = _lines(*words, zone="UTC")
    assert lines[3] == "2026-11-20        4  32.0 KiB    20  20:00:00  3 verified, 1 damaged"
    assert [line.split()[:2] for line in _lines(*words, zone="Asia/Seoul")[3:-1]] == [
        ["2026-11-20", "2"],
        ["2026-11-21", "2"],
    ]
    (day,) = json.loads(gymdbd("list", *words, "--json", TZ="UTC").stdout)["days"]
    newest = str(next(archive.glob("*_200000.db")))
    assert day == {
        "archive": str(archive),
        "source": "raspberry-pi:/srv/gym.db",
        "day": "2026-11-20",
        "backups": 4,
        "size": 4 * 8192,
        "newest": newest,
        "verdicts": {"verified": 3, "damaged": 1},
    }


def test_each_database_of_an_archive_has_a_table_of_its_own(archive: Path) -> None:
    """Two have the same name; a file that may be of either stands in a third table, once."""
    here = _add(archive, _at(1), source="/srv/here/gym_system.db")
    there = _add(archive, _at(2), source="/srv/there/gym_system.db")
    old = _add(archive, _at(400), verified=False)
    lines = _lines("--archive", archive)
    headings = [line for line in lines if not line.startswith(("gym_system", "backup", "─"))]
    assert headings[:-1] == [
        str(archive),
        "of raspberry-pi:/srv/here/gym_system.db",
        "of raspberry-pi:/srv/there/gym_system.db",
        "without a manifest, of any of these",
    ]
    assert _names(lines) == [here, there, old]
    assert lines[-2].split()[1:] == ["8.0", "KiB", "-", "unverified", "-"]
    assert headings[-1].startswith("3 backups; ")


def test_several_archives_are_summed_up(tmp_path: Path) -> None:
    """Each has its heading and its end, and the last line is about all of them."""
    jobs = {}
    for name in ("blog", "shop"):
        (tmp_path / name).mkdir()
        _add(tmp_path / name, _at(1), name)
        jobs[name] = {"every": "1d", "database": f"{name}.db", "archive": name}
    lines = gymdbd("-c", write_config(tmp_path, jobs), "list").stdout.splitlines()
    assert [lines[0], lines[6]] == [str(tmp_path / name) for name in ("blog", "shop")]
    assert [line.split(";")[0] for line in lines if " on disk in all" in line] == [
        *["1 backup"] * 2,
        "in all: 2 backups",
    ]


def test_the_size_on_disk_is_that_of_all_files_of_the_backups(archive: Path) -> None:
    """With manifests, marks and a WAL; not what else lies there, and not what a file has not."""
    name = _add(archive, _at(1))
    path = archive / name
    path.with_name(f"{name}-wal").write_bytes(b"w" * 20_000)
    marks.change(path, note="before the move")
    os.truncate(path, 10_000_000)
    ours = [path, manifest_path(path), *archive.glob(f"{name}-wal"), *archive.glob("*.marks.json")]
    (archive / "photo.db").write_bytes(b"x" * 50_000)
    (archive / f".{name}.partial").write_bytes(b"x" * 50_000)
    _, told = gymdbd_json("list", "--archive", archive)
    assert told["size_on_disk"] == sum(file.lstat().st_blocks for file in ours) * 512
    assert (len(ours), told["backups"][0]["size"]) == (4, 10_000_000)


def test_what_is_known_of_a_backup_stands_at_the_end_of_its_line(archive: Path) -> None:
    """Unfolded, however long; a note cannot move the cursor or begin a line of its own."""
    night = _at(1)
    kept = _add(archive, _at(3), method="before-restore")
    marks.change(archive / kept, kept_at=night.isoformat(), note="a\nb\x1b[2J" + "long " * 40)
    fewer = _add(archive, _at(2), suspicious=["members lost 300 of 344 rows"])
    moved = _add(archive, _at(1), created_at=_at(1, 5).isoformat())
    lines = {line.split()[0]: line for line in _lines("--archive", archive)[3:-1]}
    assert list(lines) == [kept, fewer, moved]
    said = "content overwritten by a restore; pinned; a\\nb\\x1b[2Jlong long "
    assert said in lines[kept]
    assert "  suspicious  " in lines[fewer]
    assert lines[fewer].endswith("  members lost 300 of 344 rows")
    assert f"  made {_at(1, 5):%Y-%m-%d %H:%M}" in lines[moved]


@pytest.mark.parametrize("words", [(), ("--json",), ("--by-day",)])
def test_no_manifest_is_opened_that_the_index_knows(tmp_path: Path, words: tuple[str, ...]) -> None:
    """But for one that says more than fits there: what is suspicious about a backup."""
    for path in fill(tmp_path, 40):
        marks.change(path, verified_at=_at(1).isoformat())
    fewer = _add(tmp_path, _at(1), suspicious=["members lost 300 of 344 rows"])
    index_all(tmp_path)
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=open,openat", *GYMDBD, "list", "--archive", tmp_path, *words],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    opened = {line.split('"')[1] for line in done.stderr.splitlines() if f"{tmp_path}/" in line}
    needed = set() if "--by-day" in words else {str(manifest_path(tmp_path / fewer))}
    assert {path for path in opened if path.endswith(".json")} == needed
