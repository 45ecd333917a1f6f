"""Locks between real processes: one holder at a time, and none after its death."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from gymdbd import lock
from gymdbd.errors import BusyError, FolderMissingError, StoppedError
from tests.support.command import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HOLDER = """
import sys
from pathlib import Path
from gymdbd import lock
sys.argv[0] = "/usr/bin/gymdbd"
with lock.hold([Path(one) for one in sys.argv[1:]], wait_s=20):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def _held_elsewhere(*paths: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the locks until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, *map(str, paths)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.communicate(timeout=30)


def test_a_lock_held_by_another_process_is_busy_and_names_it(tmp_path: Path) -> None:
    """The message has the command and the process id, the hint the lock's path."""
    path = lock.archive_lock(tmp_path)
    with _held_elsewhere(path) as other:
        started = time.monotonic()
        with pytest.raises(BusyError) as caught, lock.hold([path]):
            pass
        assert time.monotonic() - started < 1
    assert caught.value.message == f"{tmp_path} is in use by gymdbd, process {other.pid}"
    assert str(path) in caught.value.hint


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After kill -9 the file is still there with its name, and nobody waits."""
    path = lock.archive_lock(tmp_path)
    with _held_elsewhere(path) as other:
        other.kill()
        other.wait()
        assert str(other.pid) in path.read_text()
        assert lock.is_held(path) is False
        with lock.hold([path]):
            assert f'"pid": {os.getpid()}' in path.read_text()


def test_whether_a_lock_is_held_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    """Asking creates no file; a file that nobody locks is not held."""
    path = lock.file_lock(tmp_path / "status.json")
    assert lock.is_held(path) is False
    assert list(tmp_path.iterdir()) == []
    with _held_elsewhere(path):
        assert lock.is_held(path) is True
    assert (path.exists(), lock.is_held(path)) == (True, False)


def test_a_lock_is_free_after_the_block_and_after_an_error_in_it(tmp_path: Path) -> None:
    """The file stays where it is: removing it would let two processes hold two files."""
    path = lock.archive_lock(tmp_path)
    held = []
    with contextlib.suppress(ZeroDivisionError), lock.hold([path]):
        held.append(lock.is_held(path))
        raise ZeroDivisionError
    assert held == [True]
    assert (path.exists(), lock.is_held(path)) == (True, False)


def test_a_waiting_holder_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    """Within the time that it is willing to wait."""
    path = lock.archive_lock(tmp_path)
    with _held_elsewhere(path) as other:
        asked: list[float] = []

        def check() -> None:
            asked.append(time.monotonic())
            if len(asked) == 2:
                other.kill()

        with lock.hold([path], wait_s=20, check=check):
            assert len(asked) >= 2


def test_somebody_who_only_looks_makes_nobody_busy(tmp_path: Path) -> None:
    """A look lasts for a moment; who does not wait for a lock tries it again after that."""
    path = lock.archive_lock(tmp_path)
    path.touch()
    with path.open() as look:
        # As `is_held` does.
        fcntl.flock(look, fcntl.LOCK_SH)
        with lock.hold([path], check=look.close):
            assert lock.is_held(path) is True


def test_two_who_look_at_once_do_not_take_each_other_for_a_holder(tmp_path: Path) -> None:
    """A status that is asked for twice would tell of a run that is not there."""
    path = lock.archive_lock(tmp_path)
    path.touch()
    with path.open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        assert lock.is_held(path) is False


def test_waiting_ends_with_busy_when_the_time_is_up(tmp_path: Path) -> None:
    """The time is for all locks together."""
    paths = [tmp_path / "a.lock", tmp_path / "b.lock"]
    with _held_elsewhere(paths[1]):
        started = time.monotonic()
        with pytest.raises(BusyError), lock.hold(paths, wait_s=0.3):
            pass
        assert 0.3 <= time.monotonic() - started < 3
        assert lock.is_held(paths[0]) is False


def test_the_time_to_wait_is_for_all_locks_together(tmp_path: Path) -> None:
    """What the first one took is not there for the second."""
    paths = [tmp_path / "a.lock", tmp_path / "b.lock"]
    asked: list[float] = []
    with _held_elsewhere(paths[1]), _held_elsewhere(paths[0]) as first:

        def check() -> None:
            asked.append(time.monotonic())
            if asked[-1] - asked[0] > 1 and first.poll() is None:
                first.kill()
                first.wait()
                asked.clear()

        with pytest.raises(BusyError, match="is in use"), lock.hold(paths, wait_s=1.5, check=check):
            pass
    # Every tenth of a second, or less often on a busy machine.
    assert len(asked) < 10


def test_a_stopped_run_does_not_wait_for_a_lock(tmp_path: Path) -> None:
    """What the check raises ends the waiting."""

    def check() -> None:
        raise StoppedError("stopped")

    with _held_elsewhere(lock.archive_lock(tmp_path)):
        started = time.monotonic()
        with (
            pytest.raises(StoppedError),
            lock.hold([lock.archive_lock(tmp_path)], wait_s=20, check=check),
        ):
            pass
        assert time.monotonic() - started < 2


def test_a_lock_named_twice_is_taken_once(tmp_path: Path) -> None:
    """Otherwise a set with the same archive twice would wait for itself."""
    with lock.hold([tmp_path / "a", tmp_path / "a"]):
        assert lock.is_held(tmp_path / "a") is True


def test_two_holders_of_the_same_locks_in_another_order_do_not_deadlock(tmp_path: Path) -> None:
    """They are taken in sorted order, whatever order they are named in."""
    first, second = tmp_path / "a", tmp_path / "b"
    turns: list[int] = []

    def work(paths: list[Path]) -> None:
        for _ in range(3):
            with lock.hold(paths, wait_s=20):
                turns.append(1)

    threads = [
        threading.Thread(target=work, args=(paths,)) for paths in ([first, second], [second, first])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(turns) == 6


def test_the_second_lock_is_not_taken_before_the_first(tmp_path: Path) -> None:
    """While a.lock is waited for, b.lock stays free for whoever needs only that."""
    paths = [tmp_path / "b.lock", tmp_path / "a.lock"]
    seen: list[bool] = []
    with (
        _held_elsewhere(tmp_path / "a.lock"),
        pytest.raises(BusyError),
        lock.hold(paths, wait_s=0.1, check=lambda: seen.append(lock.is_held(paths[0]))),
    ):
        pass
    assert set(seen) == {False}


def test_a_lock_whose_holder_left_no_name_is_busy_all_the_same(tmp_path: Path) -> None:
    """On a full disk the name cannot be written; the lock is worth as much."""
    path = lock.archive_lock(tmp_path)
    with _held_elsewhere(path):
        path.write_text("")
        with pytest.raises(BusyError, match="in use by another process"), lock.hold([path]):
            pass


def test_a_lock_is_not_inherited_by_a_process_started_meanwhile(tmp_path: Path) -> None:
    """A child that outlives its parent must not keep the archive busy."""
    path = lock.archive_lock(tmp_path)
    with lock.hold([path]):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        assert lock.is_held(path) is False
    finally:
        child.kill()
        child.wait()


def test_a_lock_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Whoever may open it could hold it for ever."""
    with lock.hold([lock.archive_lock(tmp_path)]):
        assert lock.archive_lock(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_lock_in_a_folder_that_is_missing_is_a_missing_folder(tmp_path: Path) -> None:
    """It is not taken for busy."""
    path = tmp_path / "not-mounted" / "x.lock"
    with pytest.raises(FolderMissingError), lock.hold([path]):
        pass
