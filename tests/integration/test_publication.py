"""Nothing unproven becomes visible, and a run that is killed or stopped leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from gymdbd.config.parts import Keep
from gymdbd.errors import VerificationError
from gymdbd.jobs.backup import backup
from tests.support import samples
from tests.support.command import GYMDBD, environment, gymdbd_json, require
from tests.support.databases import backups, make_database, query, tree
from tests.support.jobs import backup_job, context
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MOST_CALLS = 100


def _flip_a_page(partial: Path) -> None:
    with partial.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096)


def _empty(partial: Path) -> None:
    os.truncate(partial, 0)


def _truncate(partial: Path) -> None:
    os.truncate(partial, partial.stat().st_size - 4096)


def _replace_by_an_earlier_state(partial: Path) -> None:
    """Put a sound database with the same schema and fewer rows in the partial's place."""
    partial.unlink()
    make_database(partial, rows=199, mode="delete")


@pytest.mark.parametrize("damage", [_flip_a_page, _empty, _truncate, _replace_by_an_earlier_state])
def test_a_copy_that_went_wrong_is_never_published(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The run fails, the earlier backups stay, nothing is pruned and no partial is left."""
    source = make_database(tmp_path / "gym.db", rows=200)
    archive = tmp_path / "archive"
    job = backup_job(source, archive, keep=Keep(days=0, count=1))
    backup.run(backup_job(source, archive), context())
    backup.run(backup_job(source, archive), context())
    before = tree(archive)

    def progress(step: str, done: int, total: int) -> None:
        if (step, done) == ("snapshot", total):  # All is written, nothing is proven yet.
            (partial,) = archive.glob(".*.partial")
            damage(partial)

    with pytest.raises(VerificationError):
        backup.run(job, context(progress=progress))
    assert tree(archive) == before
    assert len(backups(archive)) == 2


def _kill_at(call: str, number: int, place: Path) -> int:
    """Back up under strace, killed at the `number`th such system call; return the exit code."""
    inject = f"inject={call}:signal=KILL:when={number}"
    return subprocess.run(
        [
            *(require("strace"), "-f", "-qq", "-o", "/dev/null"),
            *("-e", f"trace={call}", "-e", inject),
            *GYMDBD,
            *("backup", "--database", place / "gym.db", "--archive", place / "archive"),
            *("--cleanup", "--keep-days=0", "--keep-count=1"),
        ],
        env=environment(PYTHONDONTWRITEBYTECODE="1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
        check=False,
    ).returncode


_CALLS = [("rename", 1), ("fsync", 1), ("unlink", 1), ("pwrite64", 5)]


@pytest.mark.parametrize(("call", "stride"), samples.sample(_CALLS, "killed", size=2))
def test_a_run_killed_at_any_call_leaves_only_good_backups_and_the_next_one_cleans_up(
    tmp_path: Path, call: str, stride: int
) -> None:
    """Whatever has a backup's name is proven good, an earlier one is there, and locks are free."""
    source = make_database(tmp_path / "gym.db", rows=300)
    archive = tmp_path / "archive"
    backup.run(backup_job(source, archive), context())
    killed = 0
    for number in range(1, _MOST_CALLS, stride):
        exit_code = _kill_at(call, number, tmp_path)
        _assert_only_good(archive)
        if exit_code == 0:
            break
        assert exit_code == -signal.SIGKILL
        killed += 1
        # Not pruned: the next round starts with a leftover of its own and this backup.
        result = backup.run(backup_job(source, archive, keep=Keep(days=0, count=1)), context())
        assert [str(path) for path in backups(archive)] == [result.path]
        assert {path.name for path in archive.iterdir()} == {
            ".gymdbd.lock",
            backups(archive)[0].name,
            backups(archive)[0].name + ".json",
        }
    else:
        raise AssertionError(f"there was no end of {call}")
    assert killed > 0


def _assert_only_good(archive: Path) -> None:
    found = backups(archive)
    assert found != []
    for path in found:
        assert query(path, "PRAGMA integrity_check") == [("ok",)]
        assert query(path, "SELECT count(*) FROM t") == [(300,)]
    exit_code, answer = gymdbd_json("list", "--archive", archive)
    assert exit_code == 0
    assert {one["verdict"] for one in answer["backups"]} == {"verified"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_backup_at_a_safe_point(
    tmp_path: Path, large: Path, number: signal.Signals
) -> None:
    """It fails with exit code 1, says that it was stopped, and leaves no partial."""
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    with subprocess.Popen(
        [*GYMDBD, "backup", "--database", large, "--archive", archive, "--json"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        until(lambda: _size_of_partials(archive) > 2**20, "the copy is under way")
        process.send_signal(number)
        answer, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert '"code": "stopped"' in answer
    assert [path.name for path in archive.iterdir()] == [".gymdbd.lock"]


def _size_of_partials(archive: Path) -> int:
    return sum(path.stat().st_size for path in archive.glob(".*.partial"))


def test_backups_within_one_second_keep_their_order_while_pruning(tmp_path: Path) -> None:
    """Each run's own backup is the newest and stays, also when the one before has just gone."""
    job = backup_job(
        make_database(tmp_path / "gym.db"), tmp_path / "archive", keep=Keep(days=0, count=1)
    )
    for _ in range(12):
        result = backup.run(job, context())
        assert [str(path) for path in backups(job.archive)] == [result.path]
