"""An archive in which somebody else has put things: no verb waits for them or follows them."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import signal
import socket
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import bounded, files, lock
from gymdbd.disk import NotOrdinaryError
from gymdbd.errors import NotOursError
from tests.support import samples, zygote
from tests.support.command import gymdbd, gymdbd_json
from tests.support.databases import backups, make_database, tree
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.zygote import Finished

_DEADLINE_S = 30.0
_CPU_S = 20
_ZERO = os.makedev(1, 5)


def _link(path: Path) -> None:
    """Lead to a pipe, so that whoever follows it waits."""
    pipe = path.parent.parent / "pipe"
    if not pipe.exists():
        os.mkfifo(pipe)
    path.symlink_to(pipe)


def _socket(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as there:
        # The path of a socket may be no longer than a hundred bytes.
        folder = os.open(path.parent, os.O_RDONLY)
        there.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


_KINDS: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "link": _link,
    "folder": Path.mkdir,
    "socket": _socket,
    "device": lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, _ZERO),
}
_ENDS = (".json", ".marks.json", "-wal", "-shm", "-journal")
_OLD = "gym_backup_20251101_030000.db"
_NAMES = (
    *(f"{_OLD}{end}" for end in _ENDS),
    "gym_backup_20251102_030000.db",
    "gym_backup_20251103_030000.db.json",
    ".gym_backup_20251104_030000.db.partial",
    ".gym.frozen.json",
)
_VERBS: dict[str, tuple[object, ...]] = {
    "list": (),
    "verify": (),
    "backup": (),
    "drill": (),
    "status": (),
    "schedule": (),
    "check": (),
    "restore": ("latest", "--to", "restored.db"),
    "diff": ("latest",),
    "rescue": ("latest", "--to", "rescued.sql", "--force"),
    "keep": (_OLD,),
    "unkeep": (_OLD,),
    "accept": ("latest",),
    "reject": (_OLD,),
    "prune": (),
    "completion": ("bash",),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with a database, its archive with two backups, and a configuration."""
    make_database(tmp_path / "gym.db")
    archive = tmp_path / "archive"
    archive.mkdir(mode=0o700)
    job = {"schedule": "0 3 * * *", "database": "gym.db", "archive": "archive", "keep": {"days": 9}}
    config = write_config(
        tmp_path,
        {
            "nightly": job,
            "rehearsal": {"kind": "drill", "schedule": "0 4 * * *", "archive": "archive"},
            "reading": {"kind": "verify", "schedule": "0 5 * * *", "archive": "archive"},
        },
    )
    assert gymdbd("-c", config, "backup").returncode == 0
    shutil.copy(backups(archive)[0], archive / _OLD)
    return tmp_path


def _bounded_run(*words: object, cwd: Path) -> Finished:
    """Run a verb; one that hangs is ended by SIGTERM, and has to end at that."""
    ends = []

    def arm(pid: int) -> None:
        resource.prlimit(pid, resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
        for after, number in ((_DEADLINE_S, 15), (_DEADLINE_S + 5, 9)):
            ends.append(threading.Timer(after, os.kill, (pid, number)))
            ends[-1].start()

    done = zygote.shared().run(*words, traced=arm, cwd=cwd)
    for timer in ends:
        timer.cancel()
    return done


@pytest.mark.parametrize("kind", ["pipe", *samples.sample(_KINDS, "kinds", 1)])
def test_no_verb_waits_for_what_lies_in_an_archive_or_is_misled_by_it(
    place: Path, kind: str
) -> None:
    """Each ends by itself, as it would without: the good backup is found, kept and restored."""
    archive = place / "archive"
    for name in _NAMES:
        _KINDS[kind](archive / name)
    (good, *_) = [path for path in backups(archive) if path.name > _OLD and "2025" not in path.name]
    before = good.read_bytes()
    codes = {}
    for verb, words in _VERBS.items():
        done = _bounded_run("-c", place / "config.yaml", verb, *words, cwd=place)
        codes[verb] = done.exit_code
        assert "Traceback" not in done.stderr, (verb, done.stderr)
    # Marks cannot be written over a folder, and a folder that forbids pruning is no "no".
    refused = {"keep": 1, "reject": 1, "status": 2} if kind == "folder" else {}
    assert codes == {**dict.fromkeys(_VERBS, 0), **refused}
    assert (good.read_bytes(), (place / "restored.db").exists()) == (before, True)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "hard link"])
def test_a_lock_is_an_ordinary_file_with_one_name(place: Path, kind: str) -> None:
    """Otherwise it is named as what it is, and neither waited for nor written through."""
    theirs, path = place / "theirs", place / "archive" / ".gymdbd.lock"
    theirs.write_text("precious")
    path.unlink()
    if kind == "hard link":
        os.link(theirs, path)
    elif kind == "link":
        path.symlink_to(theirs)
    else:
        _KINDS[kind](path)
    done = _bounded_run("-c", place / "config.yaml", "backup", "--json", cwd=place)
    assert (done.exit_code, done.answer["code"]) == (1, "not-ours")
    word = {"pipe": "named pipe", "link": "symbolic link"}.get(kind, kind)
    assert word in done.answer["error"]
    assert (theirs.read_text(), len(backups(place / "archive"))) == ("precious", 2)


@pytest.mark.parametrize("name", [".status.json.reserve", ".__log.lock"])
@pytest.mark.parametrize("kind", ["pipe", "link", "hard link"])
def test_what_lies_beside_the_status_and_the_log_is_not_written_through(
    place: Path, name: str, kind: str
) -> None:
    """The run is done all the same."""
    config, theirs, path = place / "config.yaml", place / "theirs", place / name
    content = json.loads(config.read_text())
    config.write_text(json.dumps({**content, "log": {"file": str(place / "log")}}))
    theirs.write_text("precious")
    path.unlink(missing_ok=True)
    if kind == "hard link":
        os.link(theirs, path)
    elif kind == "link":
        path.symlink_to(place / "new")
    else:
        os.mkfifo(path)
    done = _bounded_run("-c", config, "backup", cwd=place)
    assert (done.exit_code, theirs.read_text(), (place / "new").exists()) == (0, "precious", False)


@pytest.mark.parametrize("name", ["gym.damaged", ".repair"])
def test_a_folder_of_ours_in_an_archive_is_not_a_link(tmp_path: Path, name: str) -> None:
    """A link would let us write into any folder."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / name).symlink_to("theirs")
    with pytest.raises(NotOursError, match="is a symbolic link"):
        files.own_folder(tmp_path / name)


def test_a_damaged_database_is_not_saved_through_a_link(place: Path) -> None:
    """The run says what is in the way, and nothing lies where the link leads."""
    (place / "theirs").mkdir()
    (place / "archive" / "gym.damaged").symlink_to(place / "theirs")
    (place / "gym.db").write_bytes(b"no database" * 1000)
    code, answer = gymdbd_json("-c", place / "config.yaml", "backup")
    assert (code, tree(place / "theirs")) == (1, {})
    assert "gym.damaged cannot be used: it is a symbolic link" in answer["hint"]


def test_links_in_the_paths_that_the_user_wrote_are_followed(place: Path) -> None:
    """The archive, the database and the status file may be links to elsewhere."""
    (place / "elsewhere").mkdir()
    for name in ("archive", "gym.db"):
        (place / name).rename(place / "elsewhere" / name)
        (place / name).symlink_to(place / "elsewhere" / name)
    (place / "status.json").rename(place / "elsewhere" / "status.json")
    (place / "status.json").symlink_to(place / "elsewhere" / "status.json")
    for verb in ("backup", "list", "verify", "drill"):
        assert gymdbd("-c", place / "config.yaml", verb).returncode == 0, verb
    assert gymdbd("-c", place / "config.yaml", "status").returncode == 0


def test_a_file_with_a_lease_is_opened_once_it_is_given_back(tmp_path: Path) -> None:
    """A file server holds one on a file that a client has open; it is given back when asked for."""
    path = tmp_path / "leased"
    path.write_text("content")
    holder = os.open(path, os.O_RDWR)
    fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    asked: list[int] = []

    def give_back(number: int, _: object) -> None:
        asked.append(number)
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    before = signal.signal(signal.SIGIO, give_back)
    try:
        assert bounded.read(path) == b"content"
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(holder)
    assert asked


def test_a_small_file_is_opened_once_and_never_through_a_link(tmp_path: Path) -> None:
    """What others can put under its name between a look and the opening is not read."""
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to("target")
    for use in (bounded.read, lock.is_held):
        with pytest.raises(NotOrdinaryError, match="a symbolic link"):
            use(tmp_path / "link")


def test_what_is_refused_is_closed_again(tmp_path: Path) -> None:
    """A daemon would have no descriptor left some day."""
    (tmp_path / "file").touch()
    os.link(tmp_path / "file", tmp_path / "again")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(Path("/dev/fd").iterdir())
    for name, flags in (("pipe", os.O_RDONLY), ("again", os.O_RDWR | os.O_CREAT)):
        with pytest.raises(NotOrdinaryError):
            bounded.opened(tmp_path / name, flags)
    assert sorted(Path("/dev/fd").iterdir()) == before


def test_no_memory_is_taken_for_a_file_that_is_too_large(tmp_path: Path) -> None:
    """Not even if it has more bytes than any machine."""
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 2**42)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        bounded.read(tmp_path / "file", 10)
