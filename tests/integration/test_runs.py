"""`gymdbd runs` and `gymdbd growth`: what they tell of the months, by the real verbs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.clock import Clock
from gymdbd.runs import ledger
from gymdbd.runs.line import OFF, Line, skipped
from tests.support import everyone, picture
from tests.support.command import gymdbd
from tests.support.databases import make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Iterator

_OTHER = 12002
_AS_OTHER = [*everyone.ENVIRONMENT, "setpriv", f"--reuid={_OTHER}", f"--regid={_OTHER}"]
_AS_OTHER += ["--clear-groups"]
_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gym(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of the gym in the picture."""
    return picture.scene(tmp_path_factory.mktemp("gym"))


def _told(*arguments: object) -> dict[str, Any]:
    done = gymdbd(*arguments, "--json")
    assert done.returncode == 0, done.stdout
    return dict(json.loads(done.stdout))


def test_the_calendar_tells_the_reason_of_each_gap(gym: Path) -> None:
    """Three nights with a full disk, three off, and one of those was made up for."""
    text = gymdbd("-c", gym, "runs", "nightly-backup").stdout
    gaps = [line.split("  ", 2)[2] for line in text.splitlines() if line.startswith("  2")]

    assert gaps == [
        "skipped: off; made up",
        "skipped: off (2)",
        "failed: /mnt/usb has 12.0 MiB free, but 38.4 MiB are needed (3)",
    ]
    rows = [line for line in text.splitlines() if line.strip()[:3] in ("Mon", "Sun")]
    assert [len(row.split()) for row in rows] in ([13, 14], [14, 14], [14, 13])
    assert "office-copy" not in text


def test_what_a_program_gets_is_every_line_and_every_day(gym: Path) -> None:
    """The days are those of the calendar, and the lines add up to them."""
    told = _told("-c", gym, "runs", "--days", "30")
    nightly = told["jobs"]["nightly-backup"]

    assert told["jobs"].keys() == {"nightly-backup", "office-copy"}
    assert next(day["day"] for day in nightly["days"]) == told["from"]
    assert len(nightly["days"]) == 30
    assert {day["state"] for day in nightly["days"]} >= {"good", "mixed", "missed"}
    ran = sum(line["count"] for line in nightly["lines"] if line["state"] != "skipped")
    assert sum(day["runs"] for day in nightly["days"]) == ran
    (made_up,) = [day for day in nightly["days"] if day["made_up"]]
    assert (made_up["reasons"], made_up["skipped"]) == (["skipped: off"], 1)


def test_runs_of_jobs_and_days_that_are_not_there_are_refused(gym: Path) -> None:
    """With what there is."""
    unknown = gymdbd("-c", gym, "runs", "nightly-backp")
    assert (unknown.returncode, "nightly-backup" in unknown.stderr) == (2, True)
    assert gymdbd("-c", gym, "runs", "--days", "401").returncode == 2


def test_a_terminal_without_the_letters_of_a_curve_gets_others(gym: Path) -> None:
    """The curves stay curves, of plain letters."""
    text = gymdbd("-c", gym, "runs", "nightly-backup", PYTHONIOENCODING="ascii").stdout

    assert text.isascii()
    assert "\\u" not in text
    assert [line.split()[1][0] for line in text.splitlines() if line.startswith("  size")] == ["_"]


def test_a_job_without_a_record_has_nothing_on_record(tmp_path: Path) -> None:
    """That is not the same as nothing to do."""
    config = write_config(tmp_path, {"nightly": _job(tmp_path)})
    text = gymdbd("-c", config, "runs").stdout
    assert "?" in text
    assert "0 runs" in text


def test_a_job_that_was_removed_is_shown_by_its_name(tmp_path: Path) -> None:
    """The record has what it did, and whoever renamed it looks for that."""
    moment = Clock().now().isoformat()
    line = Line(job="hourly", state="ok", first=moment, last=moment)
    ledger.append(tmp_path / "ledger.jsonl", [line])
    config = write_config(tmp_path, {"nightly": _job(tmp_path)})
    title, *_, count, _ = gymdbd("-c", config, "runs", "hourly").stdout.splitlines()
    assert (title, count) == (
        "hourly (no longer in the configuration)",
        "  1 run: 1 good, 0 not; 0 skipped",
    )
    assert "hourly" not in gymdbd("-c", config, "runs").stdout


def test_a_watch_has_no_calendar(tmp_path: Path) -> None:
    """It never runs."""
    job = {"kind": "watch", "peer": "mac", "max_age": "26h"}
    config = write_config(tmp_path, {"office": job})
    assert gymdbd("-c", config, "runs").stdout == "office (never runs: a watch)\n\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that every user may enter, with an archive of another user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    everyone.install()
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-runs-"))
    folder.chmod(0o755)
    (folder / "archive").mkdir(mode=0o700)
    database = make_database(folder / "gym.db")
    for path in (folder / "archive", database):
        os.chown(path, _OTHER, _OTHER)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def test_the_ledger_of_another_user_is_refused_with_what_to_do(place: Path) -> None:
    """It is not the same as an empty one, and it is its owner's alone."""
    config = write_config(place, {"nightly": _job(place)})
    config.chmod(0o644)
    moment = Clock().now().isoformat()
    line = Line(job="nightly", state="ok", first=moment, last=moment)
    ledger.append(place / ledger.NAME, [line])

    refused = gymdbd("-c", config, "runs", prefix=_AS_OTHER)

    assert refused.returncode == 1
    assert f"{place / ledger.NAME} cannot be read" in refused.stderr
    assert "What to do: run as the user" in refused.stderr


def test_the_ledger_of_root_has_the_run_that_acted_as_another_user(place: Path) -> None:
    """That user's half reports it, and cannot write the ledger itself."""
    config = write_config(place, {"nightly": _job(place)})

    done = gymdbd("-c", config, "backup")
    (line,) = ledger.read(place / ledger.NAME)

    assert (done.returncode, "acting as" in done.stderr) == (0, True)
    assert (line.job, line.state, line.rows) == ("nightly", "ok", {"t": 100})
    facts = (place / ledger.NAME).stat()
    assert (facts.st_uid, facts.st_mode & 0o777) == (0, 0o600)


def test_the_picture_in_the_documentation_is_of_what_is_printed_today(gym: Path) -> None:
    """But for the dates and sizes, which are those of the day on which it was made."""
    drawn = (_ROOT / "deploy/docs/runs.svg").read_text(encoding="utf-8")
    now = picture.drawn("gymdbd runs", gymdbd("-c", gym, "runs").stdout.rstrip())

    assert drawn.count("<text") == now.count("<text")
    for sign in ("skipped: off; made up", "peer away (2)", "skipped: asleep (4)", "0 9-18/3"):
        assert (sign in drawn, sign in now) == (True, True)


def _job(folder: Path) -> dict[str, Any]:
    place = {"database": str(folder / "gym.db"), "archive": str(folder / "archive")}
    return {"kind": "backup", "schedule": "0 3 * * *", **place}


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the configuration of a database with three backups: one table grew, one fell."""
    folder = tmp_path_factory.mktemp("grown")
    database = folder / "gym.db"
    make_database(database)
    (folder / "archive").mkdir(mode=0o700)
    for members, visits in ((30, 10), (40, 500), (12, 900)):
        with closing(sqlite3.connect(database)) as connection:
            for table, count in (("members_now", members), ("visits", visits)):
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY)")
                connection.execute(f"DELETE FROM {table}")
                numbers = ((number,) for number in range(count))
                connection.executemany(f"INSERT INTO {table} VALUES (?)", numbers)
            connection.commit()
        done = gymdbd("backup", "--database", database, "--archive", folder / "archive")
        assert done.returncode in (0, 1), done.stderr
    return write_config(folder, {"nightly": _job(folder)})


def test_growth_tells_between_which_backups_a_table_fell(grown: Path) -> None:
    """By how much, and which backup has the fewer rows."""
    told = _told("-c", grown, "growth", "members_now")
    (database,) = told["databases"]
    table = database["tables"]["members_now"]

    assert [point["value"] for point in table["points"]] == [30, 40, 12]
    (fall,) = table["falls"]
    assert (fall["from"]["value"], fall["to"]["value"], fall["lost"]) == (40, 12, 28)
    assert fall["to"]["backup"] == table["points"][-1]["backup"]
    text = gymdbd("-c", grown, "growth", "members_now").stdout
    assert "-28 to 12, " in text
    assert fall["to"]["backup"] in text


def test_growth_of_all_tables_needs_no_configuration(grown: Path) -> None:
    """The largest table comes first, and the size before it."""
    archive = grown.parent / "archive"
    done = gymdbd("growth", "--archive", archive)

    assert done.returncode == 0, done.stderr
    first = [line.split()[0] for line in done.stdout.splitlines()[3:5]]
    assert first == ["(the", "visits"]
    assert _told("growth", "--archive", archive)["databases"][0]["backups"] == 3


def test_growth_of_a_table_that_no_backup_has_is_refused_with_the_nearest_name(
    grown: Path,
) -> None:
    """It is a mistake in the command line."""
    done = gymdbd("-c", grown, "growth", "member_now")
    assert done.returncode == 2
    assert 'did you mean "members_now"?' in done.stderr


def test_growth_of_an_empty_archive_says_what_makes_a_backup(tmp_path: Path) -> None:
    """It is no failure."""
    (tmp_path / "archive").mkdir()
    done = gymdbd("growth", "--archive", tmp_path / "archive")
    assert (done.returncode, "gymdbd backup" in done.stdout) == (0, True)


def test_skipped_moments_of_a_clock_that_was_ahead_are_not_believed(tmp_path: Path) -> None:
    """They were yet to come: what was written after them has happened before them."""
    config = write_config(tmp_path, {"nightly": _job(tmp_path)})
    today = datetime.now(UTC).replace(hour=3, minute=0)  # noqa: TID251 - the verb has real time
    before, after = ((today - timedelta(days=days)).isoformat() for days in (3, 1))
    ahead = skipped("nightly", OFF, (today - timedelta(days=2)).isoformat(), after)
    ran = Line(job="nightly", state="ok", first=before, last=before)
    ledger.append(tmp_path / ledger.NAME, [ahead, ran])

    days = _told("-c", config, "runs", "--days", "5")["jobs"]["nightly"]["days"]

    assert sum(day["skipped"] for day in days) == 0
    assert sum(day["good"] for day in days) == 1
