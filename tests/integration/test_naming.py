"""One way to name a backup, in every verb: by a beginning of its time, or by a time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gymdbd import clock
from gymdbd.archive import manifest as manifests
from gymdbd.clock import Clock
from tests.support import samples
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import backups, make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

_ZONE = Clock().zone
_TODAY = Clock().now().astimezone(_ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
_VERBS = ["restore", "verify", "diff", "rescue", "drill", "keep", "unkeep", "accept", "reject"]
_FLAGS = {"restore": ["--dry-run"], "rescue": ["--to", "rows.sql"]}


def _night(days_ago: int) -> datetime:
    """Return three o'clock of a night, on the clocks of this machine."""
    return (_TODAY - timedelta(days=days_ago)).replace(hour=3, tzinfo=_ZONE)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive with a good backup of each of three past nights, and a configuration."""
    folder = tmp_path / "archive"
    folder.mkdir()
    job = {"every": "1d", "database": str(make_database(tmp_path / "gym.db"))}
    drill = {"kind": "drill", "every": "1d", "archive": str(folder)}
    write_config(tmp_path, {"nightly": {**job, "archive": str(folder)}, "drill": drill})
    assert gymdbd("-c", tmp_path / "config.yaml", "backup").returncode == 0
    (made,) = backups(folder)
    manifest = manifests.read(made)
    assert manifest is not None
    for days in (3, 2, 1):
        night = _night(days)
        path = folder / f"gym_backup_{night:%Y%m%d_%H%M%S}.db"
        shutil.copy(made, path)
        manifests.write(dataclasses.replace(manifest, created_at=night.isoformat()), path)
    made.unlink()
    manifests.manifest_path(made).unlink()
    return folder


def _run(archive: Path, verb: str, *words: str) -> tuple[int, dict[str, Any]]:
    config = archive.parent / "config.yaml"
    flags = _FLAGS.get(verb, [])
    return gymdbd_json("-c", config, verb, *words, *flags, cwd=archive.parent)


def _told(verb: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a verb's answer that says how far off the backup is."""
    part = {"diff": result.get("from"), "verify": result.get("backups", [None])[0]}.get(verb)
    return part or result


def _named(verb: str, result: dict[str, Any]) -> str:
    """Return the file name of the backup that a verb's answer is about."""
    if verb == "verify":
        return str(result["backups"][0]["path"]).rpartition("/")[2]
    if verb in ("accept", "reject"):
        return str(*result[f"{verb}ed"]).rpartition("/")[2]
    place = result["from"]["path"] if verb == "diff" else result.get("path", result.get("backup"))
    return str(result["backup"] if verb == "rescue" else place).rpartition("/")[2]


def test_every_verb_takes_a_beginning_and_a_time(archive: Path) -> None:
    """The same backup is found either way, and by a time the answer says how far off it is."""
    night = _night(2)
    asked = night + timedelta(hours=21)
    expected = f"gym_backup_{night:%Y%m%d_%H%M%S}.db"
    for verb in _VERBS:
        by_time = _run(archive, verb, "--at", f"{asked:%Y-%m-%d %H:%M}")
        told = _told(verb, by_time[1])
        assert (told["asked_at"], told["before_s"]) == (asked.isoformat(), 21 * 3600), verb
        if verb == "accept":
            # By a time only a good backup is chosen, which needs no answer.
            assert by_time[1]["accepted"] == []
            continue
        (archive.parent / "rows.sql").unlink(missing_ok=True)
        by_name = _run(archive, verb, f"{night:%Y-%m-%d %H}")
        assert not _told(verb, by_name[1]).keys() & {"before_s", "asked_at"}, verb
        # Once rejected, there is nothing to reject any more.
        answers = [by_time] if verb == "reject" else [by_time, by_name]
        found = [(code, _named(verb, result)) for code, result in answers]
        assert found == [(0, expected)] * len(answers), verb
    code, result = _run(archive, "accept", f"{night:%Y-%m-%d %H}")
    assert (code, _named("accept", result)) == (0, expected)


def test_the_text_of_every_verb_says_how_long_before_it_was_made(archive: Path) -> None:
    """People see both times, and the difference; rows on standard output stay rows only."""
    asked = _night(1) + timedelta(hours=2)
    line = f"2 h before what was asked ({clock.to_minute(asked, _ZONE)})"
    for verb in _VERBS:
        words = [verb, "--at", f"{asked:%Y-%m-%d %H:%M}"]
        words += ["--dry-run"] if verb == "restore" else []
        done = gymdbd("-c", archive.parent / "config.yaml", *words, cwd=archive.parent)
        assert done.returncode == 0, verb
        shown, other = (
            (done.stderr, done.stdout) if verb == "rescue" else (done.stdout, done.stderr)
        )
        assert (line in shown, line in other) == (True, False), verb


def test_yesterday_is_the_newest_backup_of_yesterday(archive: Path) -> None:
    """Not that of the day before, which was the newest when yesterday began."""
    plan = _run(archive, "restore", "--at", "yesterday")[1]
    assert plan["backup"] == str(archive / f"gym_backup_{_night(1):%Y%m%d_%H%M%S}.db")
    plan = _run(archive, "restore", "--at", "yesterday 02:00")[1]
    assert plan["backup"] == str(archive / f"gym_backup_{_night(2):%Y%m%d_%H%M%S}.db")


def test_both_sides_of_a_comparison_can_be_times(archive: Path) -> None:
    """In the order in which they were typed, mixed with names; a third is refused."""
    times = [f"{_night(days) + timedelta(hours=1):%Y-%m-%d %H:%M}" for days in (3, 2)]
    compared = _run(archive, "diff", "--at", times[0], "--at", times[1])[1]
    expected = [str(archive / f"gym_backup_{_night(days):%Y%m%d_%H%M%S}.db") for days in (3, 2)]
    assert [compared[side]["path"] for side in ("from", "to")] == expected
    assert [compared[side]["before_s"] for side in ("from", "to")] == [3600, 3600]
    compared = _run(archive, "diff", "--at", times[0], "latest")[1]
    assert compared["from"]["path"] == expected[0]
    assert compared["to"]["path"] == str(backups(archive)[-1])
    code, refused = _run(archive, "diff", "latest", "--at", times[0], "--at", times[1])
    assert (code, refused["code"]) == (2, "usage")
    assert "3 backups are named" in refused["error"]


def test_a_beginning_of_several_says_what_to_type(archive: Path) -> None:
    """It names them; the century alone is no beginning."""
    code, refused = _run(archive, "restore", "20")
    assert (code, refused["code"]) == (1, "backup-missing")
    shutil.copy(backups(archive)[-1], archive / f"gym_backup_{_night(1):%Y%m%d}_150000.db")
    code, refused = _run(archive, "restore", f"{_night(1):%Y%m%d}")
    assert (code, refused["code"]) == (1, "backup-ambiguous")
    assert f"gym_backup_{_night(1):%Y%m%d}_150000.db" in refused["error"]
    assert "type more of the time" in refused["hint"]


def test_if_nothing_begins_so_or_is_as_old_the_nearest_are_named(archive: Path) -> None:
    """Those on both sides of a beginning; and by a time the oldest, with how much later it is."""
    before, behind = (f"gym_backup_{_night(days):%Y%m%d_%H%M%S}.db" for days in (2, 1))
    code, refused = _run(archive, "restore", f"{_night(2):%Y-%m-%d}T04")
    assert (code, refused["code"]) == (1, "backup-missing")
    assert refused["error"].endswith(f"; the nearest: {before}, {behind}")
    oldest = _night(3)
    code, refused = _run(archive, "diff", "--at", f"{oldest - timedelta(hours=3):%Y-%m-%d %H:%M}")
    assert (code, refused["code"]) == (1, "backup-missing")
    told = f"; the oldest, gym_backup_{oldest:%Y%m%d_%H%M%S}.db, was made 3 h after that"
    assert refused["error"].endswith(told)


def test_of_several_archives_each_says_what_it_holds(archive: Path) -> None:
    """The nearest backup may be in any of them."""
    other = archive.with_name("other")
    other.mkdir()
    shutil.copy(backups(archive)[0], other)
    config = archive.parent / "config.yaml"
    content = yaml.safe_load(config.read_text())
    content["jobs"]["weekly"] = {**content["jobs"]["nightly"], "archive": str(other)}
    config.write_text(yaml.safe_dump(content))
    code, refused = _run(archive, "restore", "2020")
    assert (code, refused["code"]) == (1, "backup-missing")
    assert [f"{folder} holds no backup" in refused["error"] for folder in (archive, other)] == [
        True,
        True,
    ]


def test_each_of_several_times_is_answered(archive: Path) -> None:
    """The answer to each stands at the backup that was chosen by it."""
    moments = {_night(days): _night(days) + timedelta(hours=days) for days in (3, 1)}
    words = [word for at in moments.values() for word in ("--at", f"{at:%Y-%m-%d %H:%M}")]
    result = _run(archive, "verify", *words)[1]
    found = {backup["path"]: backup["before_s"] for backup in result["backups"]}
    assert found == {
        str(archive / f"gym_backup_{made:%Y%m%d_%H%M%S}.db"): (asked - made).total_seconds()
        for made, asked in moments.items()
    }


def test_a_time_without_its_quotes_is_led_to_them(archive: Path) -> None:
    """The shell makes two words of it; nothing is done by the first of them alone."""
    for verb in samples.sample(_VERBS, "verbs with a time without quotes", 3):
        code, refused = _run(archive, verb, "--at", "yesterday", "14:00")
        assert (code, refused["code"]) == (2, "usage"), verb
        assert refused["hint"].endswith("goes in quotes: --at 'yesterday 14:00'"), verb
    date, day = f"{_night(3):%Y-%m-%d}", f"{_night(2):%Y%m%d}"
    assert _run(archive, "verify", date, "03")[1]["hint"].endswith(f"in quotes: '{date} 03'")
    assert "goes in quotes" in _run(archive, "restore", date, "03")[1]["hint"]
    assert _run(archive, "diff", "--at", "1d", day)[0] == 0
    assert _run(archive, "verify", "--at", f"{date} 04:00", day)[0] == 0


def test_an_empty_name_is_refused(archive: Path) -> None:
    """It is what a shell makes of a variable that is not set."""
    for verb, words in itertools.product(
        samples.sample(_VERBS, "verbs with an empty name"), ([""], [" "], ["--at", ""])
    ):
        code, refused = _run(archive, verb, *words)
        assert (code, refused["code"]) == (2, "usage"), verb
        assert "is empty" in refused["error"], verb


def test_a_time_in_the_place_of_a_name_is_led_to_the_flag(archive: Path) -> None:
    """Whoever forgets --at is told; a word that is neither is not."""
    code, refused = _run(archive, "restore", "yesterday")
    assert (code, refused["code"]) == (1, "backup-missing")
    assert "a time goes with --at, as in --at yesterday" in refused["hint"]
    assert "--at" not in _run(archive, "restore", "gestern")[1]["hint"]


def test_a_time_that_has_not_come_is_refused_by_every_verb(archive: Path) -> None:
    """By name, and nothing is taken instead."""
    for verb in samples.sample(_VERBS, "verbs with a time to come", 3):
        code, refused = _run(archive, verb, "--at", "2999-01-01")
        assert (code, refused["code"]) == (2, "time"), verb
        assert "has not come yet" in refused["error"], verb


def test_a_verb_that_needs_a_backup_says_how_to_name_one(archive: Path) -> None:
    """Without any, and with a name and a time at once."""
    needing = [verb for verb in _VERBS if verb not in ("verify", "drill")]
    for verb in samples.sample(needing, "verbs without a name", 3):
        code, refused = _run(archive, verb)
        assert (code, refused["code"]) == (2, "usage"), verb
        assert "latest" in refused["hint"], verb
        if verb != "diff":
            assert _run(archive, verb, "latest", "--at", "1d")[0] == 2, verb


def test_the_drill_of_a_named_backup_does_not_count_as_one_of_the_newest(archive: Path) -> None:
    """The status of the job stays as it is: nobody has tried the newest backup."""
    stem = f"gym_backup_{_night(2):%Y%m%d_%H%M%S}.db"
    config = archive.parent / "config.yaml"
    for words in ([f"{_night(2):%Y%m%d}"], ["drill", f"{_night(2):%Y%m%d}"], ["drill", stem]):
        code, result = _run(archive, "drill", *words)
        assert (code, result["backup"]) == (0, str(archive / stem))
    entry = json.loads(gymdbd("-c", config, "status", "--json").stdout)["jobs"]["drill"]
    assert entry.get("last_success") is None
    code, result = _run(archive, "drill", "drill")
    assert (code, result["backup"]) == (0, str(backups(archive)[-1]))
    code, refused = _run(archive, "drill", "dril")
    assert (code, refused["code"]) == (1, "backup-missing")
    assert 'no job is called dril; did you mean "drill"?' in refused["error"]


def test_a_named_backup_is_drilled_with_the_probes_for_its_database(archive: Path) -> None:
    """Those of a job for another database of the archive would fail; if two fit, one is named."""
    config = archive.parent / "config.yaml"
    content = yaml.safe_load(config.read_text())
    drill = content["jobs"]["drill"]
    probes = [{"sql": "SELECT count(*) FROM t", "at_least": 1}]
    mine = {**drill, "database": str(archive.parent / "gym.db"), "probes": probes}
    other = {
        **drill,
        "database": "/srv/pool.db",
        "probes": [{"sql": "SELECT count(*) FROM lanes", "at_least": 1}],
    }
    content["jobs"] |= {"drill": other, "mine": mine}
    config.write_text(yaml.safe_dump(content))
    day = f"{_night(2):%Y%m%d}"
    code, result = _run(archive, "drill", day)
    assert (code, len(result["probes"])) == (0, 1)
    assert _run(archive, "drill", "drill", str(backups(archive)[0]))[1]["code"] == "drill-failed"
    content["jobs"]["again"] = {**mine, "probes": []}
    config.write_text(yaml.safe_dump(content))
    code, refused = _run(archive, "drill", day)
    assert (code, refused["hint"].rpartition(": ")[2]) == (2, "gymdbd drill again or mine BACKUP")
    assert _run(archive, "drill", "again", day)[1]["probes"] == []
