"""Verification: any rot is found and marked, nothing else is touched, everybody is told."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gymdbd import lock
from gymdbd.archive import marks as all_marks
from gymdbd.archive.catalog import Catalog
from gymdbd.archive.inspection import inspect
from gymdbd.clock import Clock
from gymdbd.config.kinds import VerifyConfig
from gymdbd.config.parts import Keep
from gymdbd.errors import BackupDamagedError, BackupMissingError
from gymdbd.jobs.backup import backup
from gymdbd.jobs.prune import prune
from gymdbd.jobs.verify import verify
from gymdbd.jobs.verify.result import VerifyResult
from gymdbd.origin import here
from tests.support.command import ORDINARY_USER, EventLog, gymdbd, gymdbd_json, require
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import backup_job, context, write_config
from tests.support.waiting import Contended

_KEYS = {"path", "verdict", "problems", "remarks", "repaired"}
# A failing example is shrunk by reading it again and again, which takes its time.
_BITS = settings(deadline=None, max_examples=60)


@dataclass(frozen=True)
class _Night(Clock):
    """A clock that stands still at three o'clock of one night in November."""

    night: int = 20

    def now(self) -> datetime:
        """Return that instant."""
        return datetime(2026, 11, self.night, 3, tzinfo=UTC)


def _back_up(source: Path, archive: Path, *, night: int, **changes: Any) -> Path:
    job = backup_job(source, archive, **changes)
    return Path(backup.run(job, context(clock=_Night(UTC, night))).path)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Give an archive with three backups of one database."""
    make_database(tmp_path / "gym.db")
    for night in range(20, 23):
        _back_up(tmp_path / "gym.db", tmp_path / "archive", night=night)
    return tmp_path / "archive"


@pytest.fixture
def config(archive: Path) -> Path:
    """Give a configuration with a backup job and a verify job on that archive."""
    jobs = {
        "nightly": {"every": "1d", "database": str(archive.parent / "gym.db")},
        "proof": {"kind": "verify", "every": "1d"},
    }
    return write_config(
        archive.parent, {name: {"archive": str(archive), **job} for name, job in jobs.items()}
    )


def _job(archive: Path, **changes: Any) -> VerifyConfig:
    return VerifyConfig(**{"name": "proof", "kind": "verify", "archive": archive, **changes})


def _rot(path: Path, position: int = 5000) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def _without_marks(archive: Path) -> dict[str, str]:
    return {name: one for name, one in tree(archive).items() if not name.endswith(".marks.json")}


def _verdicts(result: VerifyResult) -> list[str]:
    return [one.verdict for one in result.backups]


def _told(answer: dict[str, Any]) -> list[str]:
    return [one["verdict"] for one in answer["backups"]]


def _damage(archive: Path, **changes: Any) -> BackupDamagedError:
    with pytest.raises(BackupDamagedError) as caught:
        verify.run(_job(archive, **changes), context())
    return caught.value


def test_sound_backups_are_verified_and_only_their_marks_are_new(archive: Path) -> None:
    """The time of the proof is in the marks; every other file is what it was, and none is new."""
    before = tree(archive)
    result = verify.run(_job(archive), context())
    assert _verdicts(result) == ["verified"] * 3
    assert [one.keys() for one in result.to_json()["backups"]] == [_KEYS] * 3
    assert result.counts == {"verified": 3}
    assert result.bytes_read == sum(path.stat().st_size for path in backups(archive))
    assert _without_marks(archive) == before
    assert all(all_marks.read(path).verified_at for path in backups(archive))


def test_a_rotten_backup_is_named_marked_and_reported_at_level_error(archive: Path) -> None:
    """The run has failed; the two others are proven all the same."""
    rotten = backups(archive)[1]
    _rot(rotten)
    log = EventLog()
    with pytest.raises(BackupDamagedError) as caught:
        verify.run(_job(archive), context(log=log))
    error = caught.value
    assert rotten.name in error.message
    assert "verify --repair" in error.hint
    assert isinstance(error.result, VerifyResult)
    assert sorted(_verdicts(error.result)) == ["damaged", "verified", "verified"]
    assert [one["path"] for one in log.named("backup damaged")] == [str(rotten)]
    assert [level for level, name, _ in log.events if name == "backup damaged"] == ["error"]
    assert all_marks.read(rotten).problems == ["its manifest has another md5 and sha256"]


def test_a_backup_that_is_whole_again_loses_its_verdict(archive: Path) -> None:
    """A cable that was loose is no reason to distrust a backup for ever."""
    rotten = backups(archive)[0]
    _rot(rotten)
    _damage(archive)
    _rot(rotten)
    assert _verdicts(verify.run(_job(archive), context())) == ["verified"] * 3
    assert all_marks.read(rotten).problems == []


def test_latest_and_pruning_pass_over_what_was_found_damaged(archive: Path) -> None:
    """The newest good one is offered and always stays, a rotten newer one notwithstanding."""
    older, good, rotten = backups(archive)
    _rot(rotten)
    _damage(archive)
    catalog = Catalog(archive, UTC)
    assert catalog.find("latest").path == good
    decisions = prune(catalog, here(archive.parent / "gym.db"), Keep(count=1), context())
    assert {one.backup.path: one.stays for one in decisions} == {
        older: False,
        good: True,
        rotten: True,
    }


# One flipped bit, anywhere.


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a backup with an index, an overflow page, free pages and odd names."""
    folder = tmp_path_factory.mktemp("plain")
    source = make_database(folder / "gym.db", rows=300)
    with closing(sqlite3.connect(source)) as application:
        application.execute('CREATE TABLE "회원\x1f" (id INTEGER PRIMARY KEY, data BLOB)')
        application.execute('INSERT INTO "회원\x1f" VALUES (1, zeroblob(20000))')
        application.execute("CREATE INDEX by_text ON t (text)")
        application.execute("DELETE FROM t WHERE id > 150")
        application.commit()
    return _back_up(source, folder / "archive", night=20)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a raw backup, part of which is only in its -wal."""
    folder = tmp_path_factory.mktemp("raw")
    source = make_database(folder / "gym.db", rows=20)
    with closing(sqlite3.connect(source)) as application:
        application.execute("PRAGMA wal_autocheckpoint=0")
        application.execute("INSERT INTO t (text) VALUES ('late')")
        application.commit()
        return _back_up(source, folder / "archive", night=20, raw=True, checkpoint="none")


def _problems(path: Path) -> list[str]:
    return inspect(Catalog(path.parent, UTC).read(path.name)).problems


def _assert_found(path: Path, changed: Path, data: bytes) -> None:
    """Give a file of the backup at `path` other bytes: that is found, and nothing is changed."""
    good = changed.read_bytes()
    changed.write_bytes(data)
    try:
        before = tree(path.parent)
        assert _problems(path) != []
        assert tree(path.parent) == before
    finally:
        changed.write_bytes(good)


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def _regions(path: Path) -> dict[str, tuple[int, int]]:
    """Return from where to where, in bytes, each kind of place in a database file is."""
    data = path.read_bytes()
    size = int.from_bytes(data[16:18], "big")
    trunk = int.from_bytes(data[32:36], "big")
    free = int.from_bytes(data[(trunk - 1) * size + 8 :][:4], "big")
    assert trunk
    assert free
    return {
        "the file's header": (0, 100),
        "the schema's page header": (100, 112),
        "the schema": (int.from_bytes(data[105:107], "big"), size),
        "a page header": (size, size + 12),
        "cells": (size + 12, 3 * size),
        "the freelist's trunk": ((trunk - 1) * size, trunk * size),
        "a free page": ((free - 1) * size, free * size),
        "the last page": (len(data) - size, len(data)),
    }


@pytest.mark.parametrize(
    "place",
    [
        *("the file's header", "the schema's page header", "the schema", "a page header"),
        *("cells", "the freelist's trunk", "a free page", "the last page"),
    ],
)
@_BITS
@given(draw=st.data())
def test_one_flipped_bit_in_the_database_is_found(
    plain: Path, place: str, draw: st.DataObject
) -> None:
    """Wherever it is, also where SQLite itself would never notice, and whatever it reads then."""
    start, end = _regions(plain)[place]
    bit = draw.draw(st.integers(8 * start, 8 * end - 1))
    _assert_found(plain, plain, _flipped(plain.read_bytes(), bit))


def test_a_schema_that_is_no_text_any_more_is_found(plain: Path) -> None:
    """Python's sqlite3 cannot even say what SQLite says of it: every byte in turn is not UTF-8."""
    start, end = _regions(plain)["the schema"]
    good = plain.read_bytes()
    for byte in range(start, end):
        _assert_found(plain, plain, _flipped(good, 8 * byte + 7))


@pytest.mark.parametrize("suffix", ["", "-wal", ".json"])
@_BITS
@given(draw=st.data())
def test_one_flipped_bit_in_any_file_of_a_raw_backup_is_found(
    raw: Path, suffix: str, draw: st.DataObject
) -> None:
    """In the database, in its WAL, and in the manifest of both."""
    changed = raw.with_name(raw.name + suffix)
    good = changed.read_bytes()
    _assert_found(raw, changed, _flipped(good, draw.draw(st.integers(0, 8 * len(good) - 1))))


def test_every_single_bit_of_a_manifest_counts(plain: Path) -> None:
    """All of them, one after the other."""
    manifest = plain.with_name(plain.name + ".json")
    good = manifest.read_bytes()
    catalog = Catalog(plain.parent, UTC)
    try:
        for bit in range(8 * len(good)):
            manifest.write_bytes(_flipped(good, bit))
            assert catalog.read(plain.name).note, f"bit {bit}"
    finally:
        manifest.write_bytes(good)


@pytest.mark.parametrize("suffix", ["", "-wal", ".json"])
@_BITS
@given(draw=st.data())
def test_a_file_that_was_cut_is_found(raw: Path, suffix: str, draw: st.DataObject) -> None:
    """By one byte or by all of them."""
    changed = raw.with_name(raw.name + suffix)
    good = changed.read_bytes()
    _assert_found(raw, changed, good[: draw.draw(st.integers(0, len(good) - 1))])


@pytest.mark.parametrize("suffix", ["", "-wal", ".json"])
@_BITS
@given(more=st.binary(min_size=1, max_size=100))
def test_a_file_that_has_grown_is_found(raw: Path, suffix: str, more: bytes) -> None:
    """By any bytes at all."""
    changed = raw.with_name(raw.name + suffix)
    _assert_found(raw, changed, changed.read_bytes() + more)


@pytest.mark.parametrize("suffix", ["-wal", "-journal", "-shm"])
def test_a_stray_file_beside_a_backup_is_found_and_left(archive: Path, suffix: str) -> None:
    """SQLite would roll it into the backup; whose it is nobody here knows."""
    path = backups(archive)[0]
    path.with_name(path.name + suffix).write_bytes(b"stray")
    before = _without_marks(archive)
    error = _damage(archive)
    assert f"{path.name}{suffix} lies beside it" in error.message
    assert _without_marks(archive) == before


def test_a_sector_that_cannot_be_read_is_damage(archive: Path, config: Path) -> None:
    """The disk's own error is a verdict on the backup, and the others are read all the same."""
    rotten = backups(archive)[0]
    strace = [require("strace"), "-f", "-qq", "-o", "/dev/null", "-P", str(rotten)]
    fault = ["-e", "trace=read,pread64", "-e", "inject=read,pread64:error=EIO"]
    exit_code, answer = gymdbd_json("-c", config, "verify", "--all", prefix=[*strace, *fault])
    assert (exit_code, answer["code"]) == (1, "backup-damaged")
    found = {one["path"]: one["verdict"] for one in answer["backups"]}
    assert found[str(rotten)] == "damaged"
    assert sorted(found.values()) == ["damaged", "verified", "verified"]
    assert "cannot be read (Input/output error)" in " ".join(all_marks.read(rotten).problems)


def test_what_this_user_may_not_read_is_not_called_damaged(archive: Path) -> None:
    """The run fails with a remedy, the backup keeps its verdict, and the others are proven."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that is another's")
    foreign = backups(archive)[0]
    os.chown(foreign, 12345, 12345)
    exit_code, answer = gymdbd_json("verify", "--archive", archive, "--all", prefix=ORDINARY_USER)
    assert (exit_code, answer["code"]) == (1, "source-unreadable")
    assert "chown" in answer["hint"]
    assert _told(answer) == ["verified"] * 2
    assert all_marks.read(foreign).problems == []


def test_in_a_folder_that_cannot_be_written_the_verdict_is_told_all_the_same(
    archive: Path,
) -> None:
    """And that it could not be stored; nothing in the folder has changed."""
    _rot(backups(archive)[0])
    before = tree(archive)
    archive.chmod(0o500)
    try:
        exit_code, answer = gymdbd_json(
            "verify", "--archive", archive, "--all", prefix=ORDINARY_USER
        )
    finally:
        archive.chmod(0o700)
    assert (exit_code, answer["code"]) == (1, "backup-damaged")
    assert sorted(_told(answer)) == ["damaged", "verified", "verified"]
    assert all("could not be stored" in one["remarks"][0] for one in answer["backups"])
    assert tree(archive) == before


# Others at work on the same archive.


def test_a_backup_that_is_pruned_while_it_is_read_is_left_out(archive: Path) -> None:
    """It is no failure, and no marks are left without their backup."""
    gone = backups(archive)[1]
    catalog = Catalog(archive, UTC)

    def progress(step: str, done: int, total: int) -> None:
        del step, done, total
        if gone.exists():
            catalog.remove(catalog.read(gone.name))

    result = verify.run(_job(archive), context(progress=progress))
    assert _verdicts(result)[0] == "verified"
    assert not any(name.startswith(gone.name) for name in tree(archive))


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_no_verdict_is_given_on_a_backup_that_is_another_now(archive: Path, how: str) -> None:
    """What was read of a rotten one says nothing of the good one that was put in its place."""
    path = backups(archive)[1]
    good = archive.parent / "good.db"
    shutil.copy(path, good)
    _rot(path)

    def progress(step: str, done: int, total: int) -> None:
        del step
        # It is the oldest but one, and all three are of one size.
        if done == 2 * total // 3 and good.exists():
            good.replace(path)
            if how == "removed":
                path.unlink()

    log = EventLog()
    result = verify.run(_job(archive), context(progress=progress, log=log))
    assert not good.exists()
    assert _verdicts(result) == ["verified"] * 2
    assert [one["path"] for one in log.named("backup left out")] == [str(path)]
    assert not all_marks.marks_path(path).exists()


def test_the_archive_is_free_while_backups_are_read(archive: Path) -> None:
    """Whoever makes a backup does not wait for gigabytes to be read."""
    held = []

    def check() -> None:
        held.append(lock.is_held(lock.archive_lock(archive)))

    for path in backups(archive):
        inspect(Catalog(archive, UTC).read(path.name), check)
    before = len(held)
    verify.run(_job(archive), context(progress=lambda *_: check()))
    assert len(held) > before
    assert not any(held)


def test_marks_wait_for_whoever_holds_the_archive(archive: Path) -> None:
    """They are written when it is free again, not before."""

    def marked() -> list[bool]:
        return [all_marks.read(path).verified_at is not None for path in backups(archive)]

    with Contended(lock.archive_lock(archive), marked) as held:
        result = verify.run(_job(archive), context(check=held.check))
    assert held.seen == [[False] * 3] * 5
    assert _verdicts(result) == ["verified"] * 3
    assert marked() == [True] * 3


def test_an_archive_without_a_backup_is_an_error(tmp_path: Path) -> None:
    """A disk that is not mounted must not be reported as well proven."""
    with pytest.raises(BackupMissingError, match="holds no backup to verify"):
        verify.run(_job(tmp_path), context())


# The rolling sample.


def test_a_sample_reads_every_backup_within_its_period(archive: Path) -> None:
    """A third a night, one new backup a night, the oldest pruned: all are read, none twice."""
    read: list[str] = []
    for _ in range(3):
        result = verify.run(_job(archive, sample=33), context())
        read += [one.path for one in result.backups]
    assert sorted(read) == [str(path) for path in backups(archive)]


def test_a_sample_also_reads_what_is_known_to_be_damaged(archive: Path) -> None:
    """Otherwise a rotten backup would be forgotten as soon as the next sample is a good one."""
    rotten = backups(archive)[0]
    _rot(rotten)
    for _ in range(3):
        error = _damage(archive, sample=1)
        assert rotten.name in error.message


# The command line.


def test_verify_without_arguments_reads_the_newest_of_each_database(
    config: Path, archive: Path
) -> None:
    """And whatever is marked damaged."""
    other = _back_up(make_database(config.parent / "shop.db"), archive, night=19)
    exit_code, answer = gymdbd_json("-c", config, "verify")
    assert (exit_code, answer["state"]) == (0, "ok")
    assert [one["path"] for one in answer["backups"]] == [str(backups(archive)[2]), str(other)]
    all_marks.change(backups(archive)[0], problems=["rotten"])
    exit_code, answer = gymdbd_json("-c", config, "verify")
    assert len(answer["backups"]) == 3


def test_backups_are_named_by_name_by_path_and_as_latest(config: Path, archive: Path) -> None:
    """A path needs no configuration, a name is looked for in its archives."""
    first, _, newest = backups(archive)
    for words, expected in (
        (["-c", config, "verify", first.name], first),
        (["verify", first], first),
        (["verify", "--archive", archive, "latest"], newest),
    ):
        exit_code, answer = gymdbd_json(*words)
        assert exit_code == 0, answer
        assert [one["path"] for one in answer["backups"]] == [str(expected)]
    exit_code, answer = gymdbd_json("-c", config, "verify", "gym.db")
    assert (exit_code, answer["code"]) == (1, "backup-missing")


@pytest.mark.parametrize(
    "words",
    [
        ["--all", "--sample", "10%"],
        ["latest", "--all"],
        ["--sample", "10"],
        ["--sample", "0%"],
        ["--all", "--repair"],
    ],
)
def test_what_cannot_be_asked_for_is_refused(config: Path, words: list[str]) -> None:
    """Exit code 2, and nothing is read."""
    exit_code, answer = gymdbd_json("-c", config, "verify", *words)
    assert (exit_code, answer["state"]) == (2, "failed")
    assert not list((config.parent / "archive").glob("*.marks.json"))


def test_a_damaged_backup_is_told_with_its_reason_and_exit_code_1(
    config: Path, archive: Path
) -> None:
    """In words and as one JSON object that has every verdict as well."""
    _rot(backups(archive)[1])
    done = gymdbd("-c", config, "verify", "--all")
    assert done.returncode == 1
    assert "its manifest has another md5 and sha256" in done.stdout
    assert "What to do: gymdbd verify --repair" in done.stderr
    exit_code, answer = gymdbd_json("-c", config, "verify", "--all")
    assert (exit_code, answer["state"], answer["code"]) == (1, "failed", "backup-damaged")
    assert sorted(_told(answer)) == ["damaged", "verified", "verified"]


@pytest.mark.parametrize("words", [("verify", "--all"), ("prune", "--dry-run", "--keep-days", "9")])
def test_the_archive_is_a_heading_and_the_backups_are_names(
    words: tuple[str, ...], config: Path, archive: Path
) -> None:
    """A long path of the archive does not push what is said of each out of sight."""
    lines = gymdbd("-c", config, *words, "--archive", archive).stdout.splitlines()
    assert lines[0] == str(archive)
    assert sum(str(archive) in line for line in lines) == 1
    names = [path.name for path in backups(archive)]
    assert [sum(name in line for line in lines) for name in names] == [1] * len(names)


def test_status_fails_until_a_verification_finds_all_well(config: Path, archive: Path) -> None:
    """Naming the backup; `list` shows the verdict; removing the rotten one makes it good."""
    rotten = backups(archive)[0]
    _rot(rotten)
    gymdbd("-c", config, "verify", "--all")
    exit_code, answer = gymdbd_json("-c", config, "status")
    assert (exit_code, answer["jobs"]["proof"]["health"]) == (2, "failing")
    assert rotten.name in answer["jobs"]["proof"]["reason"]
    listed = gymdbd_json("-c", config, "list")[1]["backups"]
    assert [one["verdict"] for one in listed] == ["verified", "verified", "damaged"]
    assert gymdbd("-c", config, "verify").returncode == 1
    rotten.unlink()
    assert gymdbd("-c", config, "verify").returncode == 0
    assert gymdbd_json("-c", config, "status")[1]["jobs"]["proof"]["health"] == "ok"


def test_check_tells_of_damaged_backups_and_of_a_verification_that_stores_nothing(
    config: Path, archive: Path
) -> None:
    """An archive that is all well is ok."""

    def state() -> tuple[str, str]:
        checks = gymdbd_json("-c", config, "check", prefix=ORDINARY_USER)[1]["checks"]
        (found,) = [one for one in checks if one["name"] == "proof archive"]
        return found["state"], found["message"]

    assert state()[0] == "ok"
    all_marks.change(backups(archive)[0], problems=["rotten"])
    assert state()[0] == "error"
    assert backups(archive)[0].name in state()[1]
