"""What happens on the new machine: the whole database gets its name, or nothing is changed."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import shlex
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gymdbd.source.errors import AnotherFileError, ConnectionLostError, PlaceError, PlaceTakenError
from tests.support import disks, ledger, samples
from tests.support.application import application
from tests.support.command import require
from tests.support.databases import make_database
from tests.support.pulling import crash_after, snapshot_of
from tests.support.receiving import STAMP, await_arrival, pieces, receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _GoneError(Exception):
    """The client is gone."""


_SIDES = ("-wal", "-shm", "-journal")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Give the bytes of a database to put there: a quarter of a megabyte."""
    path = ledger.create(tmp_path_factory.mktemp("content") / "gym.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE photos AS SELECT randomblob(200000) AS photo")
        connection.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a place in an empty folder."""
    folder = tmp_path / "instance"
    folder.mkdir()
    return folder / "gym 회원's.db"


def names(place: Path) -> list[str]:
    """Return what lies in the folder of the place."""
    return sorted(path.name for path in place.parent.iterdir())


def test_a_database_is_put_into_an_empty_place(place: Path, content: bytes) -> None:
    """Alone, with the recorded mode, and under one name only."""
    with receiving(place) as side:
        there = side.ask(len(content), {"mode": "0640"})
        side.putting.put(pieces(content), len(content), lambda *_: None)
        assert names(place) != [place.name]
        placed = side.putting.publish()
    assert (there.saves, there.aside, there.makes_folder) == (None, [], False)
    assert (placed.saved, placed.aside, placed.ownership["mode"]) == (None, [], "0640")
    assert (names(place), place.read_bytes()) == ([place.name], content)
    facts = place.stat()
    assert (facts.st_mode & 0o7777, facts.st_nlink) == (0o640, 1)


def test_until_it_has_its_name_only_its_user_may_read_it(place: Path, content: bytes) -> None:
    """Under a name that nobody can foresee: it is another one each time."""
    seen = set()
    for _ in range(2):
        with receiving(place) as side:
            side.ask(len(content), {"mode": "0666"})
            side.putting.put(pieces(content), len(content), lambda *_: None)
            partial = await_arrival(place.parent, len(content))
            assert partial.stat().st_mode & 0o7777 == 0o600
            seen.add(partial.name)
    assert len(seen) == 2
    assert names(place) == []


def _link(place: Path) -> None:
    place.with_name("elsewhere").write_bytes(b"another")
    place.symlink_to("elsewhere")


_IN_THE_WAY: dict[str, Callable[[Path], object]] = {
    "database": make_database,
    "empty": lambda place: place.write_bytes(b""),
    "link": _link,
    "dead-link": lambda place: place.symlink_to("nowhere"),
    "folder": lambda place: place.mkdir(),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("kind", _IN_THE_WAY)
def test_what_is_in_the_place_is_not_overwritten(
    place: Path, content: bytes, kind: str, *, replace: bool
) -> None:
    """A file is replaced if that is asked for, which keeps it by another name; nothing else is."""
    _IN_THE_WAY[kind](place)
    before, listed = snapshot_of(place.parent), names(place)
    if replace and kind in ("database", "empty"):
        with receiving(place) as side:
            assert side.put(content, replace=True).saved == f"{place}.before-rebuild-{STAMP}"
        saved = place.with_name(f"{place.name}.before-rebuild-{STAMP}")
        assert snapshot_of(place.parent)[saved.name] == before[place.name]
        assert place.read_bytes() == content
        return
    with receiving(place) as side, pytest.raises(PlaceTakenError, match=r"is at|file at"):
        side.put(content, replace=replace)
    assert (snapshot_of(place.parent), names(place)) == (before, listed)


def test_a_replaced_database_keeps_what_is_only_in_its_wal(place: Path, content: bytes) -> None:
    """And the new one gets no -wal of the old one, which SQLite would apply to it."""
    make_database(place, rows=1)
    crash_after(place, "INSERT INTO t (text) VALUES ('only in the WAL')")
    assert place.with_name(f"{place.name}-wal").stat().st_size
    with receiving(place) as side:
        placed = side.put(content, replace=True)
    saved = place.with_name(f"{place.name}.before-rebuild-{STAMP}")
    assert placed.saved == str(saved)
    assert not any(place.with_name(place.name + side).exists() for side in _SIDES)
    with closing(sqlite3.connect(saved)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
    assert place.read_bytes() == content


def test_side_files_of_a_database_that_is_gone_are_set_aside(place: Path, content: bytes) -> None:
    """SQLite would apply them to the new one; what is in them may be wanted."""
    for suffix in _SIDES:
        place.with_name(place.name + suffix).write_bytes(suffix.encode())
    with receiving(place) as side:
        assert side.ask(len(content)).aside == [f"{place}{suffix}" for suffix in _SIDES]
        side.putting.put(pieces(content), len(content), lambda *_: None)
        placed = side.putting.publish()
    aside = [f"{place}.before-rebuild-{STAMP}{suffix}" for suffix in _SIDES]
    assert placed.aside == aside
    assert [Path(path).read_text() for path in aside] == list(_SIDES)
    assert len(names(place)) == 4


def test_a_database_that_a_process_has_open_is_not_replaced(place: Path, content: bytes) -> None:
    """Its process would go on in a file that nobody sees any more."""
    make_database(place)
    before = snapshot_of(place.parent)
    with application(place) as app:
        app.run("SELECT * FROM t")
        with receiving(place) as side, pytest.raises(PlaceTakenError, match=f"pid {app.pid}"):
            side.put(content, replace=True)
        assert place.read_bytes() != content
    assert snapshot_of(place.parent)[place.name] == before[place.name]


def test_a_place_whose_deleted_file_is_in_use_stays_empty(place: Path, content: bytes) -> None:
    """The application would write on into the deleted one, and look well."""
    make_database(place, mode="delete")
    with application(place) as app:
        app.run("BEGIN IMMEDIATE")
        app.run("INSERT INTO t (text) VALUES ('new')")
        place.unlink()
        with receiving(place) as side, pytest.raises((AnotherFileError, PlaceTakenError)):
            side.put(content)
    assert not place.exists()


def test_an_application_that_makes_its_file_meanwhile_keeps_it(place: Path, content: bytes) -> None:
    """It has been started too early: its file is not taken from it."""
    with receiving(place) as side:
        side.ask(len(content))
        side.putting.put(pieces(content), len(content), lambda *_: None)
        make_database(place)
        before = place.read_bytes()
        with pytest.raises(PlaceTakenError):
            side.putting.publish()
    assert (names(place), place.read_bytes()) == ([place.name], before)


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_what_has_the_second_name_already_is_not_replaced(
    place: Path, content: bytes, suffix: str
) -> None:
    """Of two rebuilds in one second, the later one would take what the first has saved."""
    make_database(place)
    taken = place.with_name(f"{place.name}.before-rebuild-{STAMP}{suffix}")
    taken.write_bytes(b"saved")
    before = snapshot_of(place.parent)
    with receiving(place) as side, pytest.raises(PlaceError, match=f"a {taken.name} already"):
        side.put(content, replace=True)
    assert snapshot_of(place.parent) == before


def test_two_databases_in_one_folder_are_rebuilt_at_the_same_time(
    place: Path, content: bytes
) -> None:
    """Neither takes what arrives of the other one for a leftover of its own."""
    with receiving(place) as side, receiving(place.with_name("other.db")) as other:
        side.ask(len(content))
        side.putting.put(pieces(content), len(content), lambda *_: None)
        other.put(content)
        side.putting.publish()
    assert names(place) == [place.name, "other.db"]


def test_more_than_was_announced_is_refused(place: Path, content: bytes) -> None:
    """There may be no room for it: only what was announced was compared with the disk."""
    with receiving(place) as side:
        side.ask(len(content) - 1)
        with pytest.raises(PlaceError, match="more bytes arrived"):
            side.putting.put(pieces(content), len(content), lambda *_: None)
    assert names(place) == []


def test_a_file_in_place_of_the_folder_is_named(place: Path) -> None:
    """At the first look, before anything is sent."""
    place.write_bytes(b"")
    with receiving(place / "gym.db") as side, pytest.raises(PlaceError, match="is not a folder"):
        side.ask(1)


def _refusing_links(error: str) -> list[str]:
    """Return the words before a process whose hard links fail."""
    refuse = f"inject=linkat:error={error}"
    return [require("strace"), "-f", "-o", "/dev/null", "-e", "trace=linkat", "-e", refuse]


def test_a_name_that_is_taken_at_the_last_moment_is_not_taken_away(
    place: Path, content: bytes
) -> None:
    """A rename would replace the file that has just been made; a link is refused."""
    with receiving(place, *_refusing_links("EEXIST")) as side, pytest.raises(PlaceTakenError):
        side.put(content)
    assert names(place) == []
    make_database(place, mode="delete")
    with (
        receiving(place, *_refusing_links("EEXIST")) as side,
        pytest.raises(PlaceTakenError) as caught,
    ):
        side.put(content, replace=True)
    (saved,) = names(place)
    assert f"the file that was there is {place.with_name(saved)} now" in caught.value.hint


def test_a_disk_without_links_gets_the_database_all_the_same(place: Path, content: bytes) -> None:
    """As FAT, which has none; but what has a -wal there cannot be saved safely, and stays."""
    with receiving(place, *_refusing_links("EPERM")) as side:
        side.put(content)
    assert (names(place), place.read_bytes()) == ([place.name], content)
    crash_after(place, "PRAGMA journal_mode = WAL", "CREATE TABLE more (id)")
    before = snapshot_of(place.parent)
    with (
        receiving(place, *_refusing_links("EPERM")) as side,
        pytest.raises(PlaceError, match="cannot be saved") as caught,
    ):
        side.put(content, replace=True)
    assert "together with its -wal, -shm" in caught.value.hint
    assert snapshot_of(place.parent) == before


def test_a_missing_folder_is_made_and_goes_again_if_nothing_arrives(
    tmp_path: Path, content: bytes
) -> None:
    """Only the database's own; above it an application is to be set up first."""
    place = tmp_path / "instance" / "gym.db"
    with receiving(place) as side:
        assert side.ask(len(content)).makes_folder
        assert not place.parent.exists()
        side.putting.put(pieces(content), len(content), lambda *_: None)
        assert place.parent.is_dir()
    assert not place.parent.exists()
    with receiving(place) as side:
        side.put(content)
    assert place.read_bytes() == content
    deep = tmp_path / "gym controller" / "instance" / "gym.db"
    with receiving(deep) as side, pytest.raises(PlaceError) as caught:
        side.put(content)
    assert f"mkdir -p '{deep.parent}'" in caught.value.hint
    assert not deep.parent.parent.exists()


@pytest.mark.skipif(not disks.may_mount(), reason="mounting needs root")
def test_a_disk_without_room_is_refused_before_anything_is_sent(
    tmp_path: Path, content: bytes
) -> None:
    """And one that fills up meanwhile takes no part of it."""
    with disks.mounted(tmp_path, "tmpfs", size="512k") as folder:
        place = folder / "gym.db"
        with receiving(place) as side, pytest.raises(PlaceError, match="needed"):
            # Less than there is, but with nothing left for the application.
            side.ask(500 * 1024)
        with receiving(place) as side:
            side.ask(len(content))
            (folder / "other").write_bytes(bytes(400 * 1024))
            with pytest.raises(PlaceError, match="No space left on device"):
                side.putting.put(pieces(content), len(content), lambda *_: None)
        assert names(place) == ["other"]


def test_what_is_not_on_the_disk_as_it_was_sent_gets_no_name(place: Path, content: bytes) -> None:
    """A bit flips on its way to the card: what is read back decides."""

    def spoilt() -> Iterator[bytes]:
        yield from pieces(content)
        partial = await_arrival(place.parent, len(content))
        with partial.open("r+b") as file:
            file.seek(5000)
            file.write(bytes([content[5000] ^ 1]))

    with receiving(place) as side:
        side.ask(len(content))
        with pytest.raises(PlaceError, match="not what was sent"):
            side.putting.put(spoilt(), len(content), lambda *_: None)
    assert names(place) == []


@pytest.mark.parametrize("moment", ["asked", "half", "whole"])
@pytest.mark.parametrize("how", ["gone", "SIGTERM", "SIGHUP"])
def test_an_end_before_it_has_its_name_leaves_nothing(
    place: Path, content: bytes, moment: str, how: str
) -> None:
    """The line breaks, or somebody ends the process over there."""

    def half() -> Iterator[bytes]:
        yield from pieces(content[: len(content) // 2])
        await_arrival(place.parent, len(content) // 2)
        raise _GoneError

    with receiving(place) as side:
        side.ask(len(content))
        if moment == "half":
            with pytest.raises(_GoneError):
                side.putting.put(half(), len(content), lambda *_: None)
        elif moment == "whole":
            side.putting.put(pieces(content), len(content), lambda *_: None)
        if how != "gone":
            side.process.send_signal(signal.Signals[how])
            side.process.wait(timeout=20)
    assert names(place) == []


def test_a_run_that_was_killed_leaves_a_file_that_the_next_one_removes(
    place: Path, content: bytes
) -> None:
    """But not one that is still being written: that one is let be, and this one refused."""
    with receiving(place) as killed:
        killed.ask(len(content))
        killed.putting.put(pieces(content), len(content), lambda *_: None)
        with receiving(place) as other, pytest.raises(PlaceError, match="at work"):
            other.put(content)
        assert len(names(place)) == 1
        killed.process.kill()
    assert len(names(place)) == 1
    with receiving(place) as side:
        side.put(content)
    assert (names(place), place.read_bytes()) == ([place.name], content)


_OWNER, _OTHER = 12001, 12002
_AS_LOGIN = ["setpriv", f"--reuid={_OTHER}", f"--regid={_OTHER}", "--clear-groups", "--"]
_AS_ROOT = os.geteuid() == 0


@pytest.fixture
def shared(place: Path) -> Iterator[Path]:
    """Give a place in a folder of another user's, which all may enter."""
    with tempfile.TemporaryDirectory(prefix="gymdbd-rebuild-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        os.chown(folder, _OWNER, _OWNER)
        yield folder / place.name


@pytest.mark.skipif(not _AS_ROOT, reason="giving files away needs root")
@pytest.mark.parametrize(
    ("owner", "expected", "remark"),
    [
        ({"owner": "daemon", "group": "mail"}, ("daemon", "mail"), ""),
        ({"owner": "12002", "uid": 12002, "group": "12002", "gid": 12002}, ("12002", "12002"), ""),
        ({"owner": "gym", "uid": 2}, ("12001", "12001"), "its owner is 12001, because there is no"),
        ({}, ("12001", "12001"), "its mode and owner were not recorded"),
    ],
)
def test_root_gives_it_to_the_recorded_user_or_to_that_of_the_folder(
    shared: Path, content: bytes, owner: dict[str, Any], expected: tuple[str, str], remark: str
) -> None:
    """A name decides: its number over there may be somebody else's here."""
    with receiving(shared) as side:
        placed = side.put(content, owner)
    assert (placed.ownership["owner"], placed.ownership["group"]) == expected
    assert shared.stat().st_uid == placed.ownership["uid"]
    assert [line for line in placed.remarks if line.startswith(remark)] == placed.remarks
    assert bool(placed.remarks) == bool(remark)


@pytest.mark.skipif(not _AS_ROOT, reason="giving files away needs root")
def test_a_folder_that_root_makes_is_of_the_user_whose_database_it_holds(
    shared: Path, content: bytes
) -> None:
    """As the folder above it; an application that may not write beside its database fails."""
    made = shared.parent / "instance"
    with receiving(made / "gym.db") as side:
        side.put(content)
    assert [path.stat().st_uid for path in (made, made / "gym.db")] == [_OWNER, _OWNER]


@pytest.mark.skipif(not _AS_ROOT, reason="becoming another user needs root")
def test_a_login_that_may_not_give_it_away_says_what_to_type(shared: Path, content: bytes) -> None:
    """It is that login's then, and nothing of it is hidden from whoever was to have it."""
    with receiving(shared, *_AS_LOGIN) as side:
        placed = side.put(content, {"owner": "daemon", "group": "mail", "mode": "0640"})
    assert (shared.stat().st_uid, shared.stat().st_mode & 0o777) == (_OTHER, 0o640)
    for remark, name in zip(placed.remarks, ("daemon", ":mail"), strict=True):
        assert remark.endswith(shlex.join(["sudo", "chown", name, str(shared)]))


@pytest.mark.skipif(not _AS_ROOT, reason="becoming another user needs root")
def test_a_folder_that_the_login_may_not_write_is_named_with_its_owner(
    shared: Path, content: bytes
) -> None:
    """That is whom to log in as."""
    shared.parent.chmod(0o755)
    with receiving(shared, *_AS_LOGIN) as side, pytest.raises(PlaceError) as caught:
        side.put(content)
    assert f"{_OTHER} may not write to {shared.parent}" in caught.value.message
    assert f"log in as {_OWNER}" in caught.value.hint
    assert names(shared) == []


# What changes names, or makes a change last.
_CALLS = (
    *("mkdir", "fsync", "fdatasync", "link", "linkat", "rename", "renameat", "renameat2"),
    *("unlink", "unlinkat", "fchmod", "fchown", "rmdir"),
)


def _points(log: Path) -> list[tuple[str, int]]:
    """Return the calls of a recorded run, each with how many of its name there were until then."""
    counted: collections.Counter[str] = collections.Counter()
    found = []
    for call in re.findall(r"^\d+ +(\w+)\(", log.read_text(errors="replace"), re.MULTILINE):
        counted[call] += 1
        found.append((call, counted[call]))
    return found


def _set_up(place: Path, scene: str) -> None:
    """Make the folder as it is before a run."""
    shutil.rmtree(place.parent, ignore_errors=True)
    if scene != "no folder":
        place.parent.mkdir()
    if scene == "replaced":
        make_database(place, rows=1)
        crash_after(place, "INSERT INTO t (text) VALUES ('only in the WAL')")
    elif scene == "leftovers":
        place.with_name(f"{place.name}-wal").write_bytes(b"left")


def _holds_the_old_one(path: Path) -> bool:
    """Return whether a database holds what the one before had, in its WAL too."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.db")
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as connection:
            return bool(connection.execute("SELECT count(*) FROM t").fetchone() == (2,))


def _require_promises(place: Path, scene: str, content: bytes) -> None:
    """After a kill: nothing at the place, the whole new one, or what was there, untouched."""
    saved = place.with_name(f"{place.name}.before-rebuild-{STAMP}")
    is_new = place.exists() and place.read_bytes() == content
    if is_new:
        assert not place.with_name(f"{place.name}-wal").exists()
    elif place.exists():
        assert scene == "replaced"
        assert _holds_the_old_one(place)
    if scene == "replaced":
        assert (place.exists() and not is_new) or _holds_the_old_one(saved)
    if scene == "leftovers":
        left = [place.with_name(f"{place.name}-wal"), Path(f"{saved}-wal")]
        assert [path.read_bytes() for path in left if path.exists()] == [b"left"]


@pytest.mark.parametrize("scene", ["empty", "no folder", "leftovers", "replaced"])
def test_killed_at_any_call_nothing_is_there_or_all_of_it(
    tmp_path: Path, content: bytes, scene: str
) -> None:
    """What was there is whole as well, by its old name or the new one; the next run succeeds."""
    place, log = tmp_path / "instance" / "gym.db", tmp_path / "calls"
    trace = [require("strace"), "-f", "-o", str(log), "-e", f"trace={','.join(_CALLS)}"]
    _set_up(place, scene)
    with receiving(place, *trace) as side:
        side.put(content, {"owner": "daemon", "mode": "0640"}, replace=True)
    points = _points(log)
    assert {"fsync", "fchmod"} <= {call for call, _ in points}
    for call, number in samples.sample(points, f"kills of a rebuild, {scene}", size=2):
        _set_up(place, scene)
        kill = ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
        with receiving(place, *trace, *kill) as side, contextlib.suppress(ConnectionLostError):
            side.put(content, {"owner": "daemon", "mode": "0640"}, replace=True)
        assert side.process.returncode == -signal.SIGKILL
        _require_promises(place, scene, content)
        is_there = place.exists() and place.read_bytes() == content
        if not is_there:
            with receiving(place) as side:
                side.putting.ask(len(content), {}, replace=True, stamp="20261123T080000Z")
                side.putting.put(pieces(content), len(content), lambda *_: None)
                side.putting.publish()
        assert place.read_bytes() == content
        assert not list(place.parent.glob(".gymdbd-rebuild-*")) or is_there
