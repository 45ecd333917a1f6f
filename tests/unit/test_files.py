"""Files that appear whole or not at all, for their owner only, and errors that say what to do."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import disk, files, lock, partials
from gymdbd.errors import DiskFullError, FolderMissingError, NotWritableError, WriteFailedError
from gymdbd.source.errors import GymdbdError
from tests.support.disks import expect_clone

if TYPE_CHECKING:
    from collections.abc import Iterator

_ORDINARY_UMASK = 0o022
# What the kernel answers for a share or a disk that is gone.
_AWAY = ["ETIMEDOUT", "ESTALE", "ENOTCONN", "ECONNRESET", "ECONNABORTED"]
_AWAY += ["EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "ENXIO"]


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Let files come out readable by everybody, unless somebody takes care."""
    before = os.umask(_ORDINARY_UMASK)
    yield
    os.umask(before)


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [
        (errno.EACCES, "not-allowed", "run as the user of the daemon"),
        (errno.ENOTDIR, "read-failed", "check the path"),
        (errno.EIO, "disk-failing", "its disk or card has failed"),
    ],
)
def test_a_failure_to_read_is_told_apart(number: int, code: str, hint: str) -> None:
    """A disk that fails is no matter of users, and the other way round."""
    error = OSError(number, os.strerror(number), "/srv/gym")
    told = disk.read_error(error, "the archive /srv/gym", denied="run as the user of the daemon")
    assert told.code == code
    assert told.message == f"the archive /srv/gym cannot be read ({os.strerror(number)})"
    assert told.hint.startswith(hint)


def test_only_an_answer_that_bytes_are_lost_is_damage() -> None:
    """Whatever else a read answers says nothing about the file."""
    every = errno.errorcode.items()
    lost = {name for number, name in every if disk.is_damage(OSError(number, "no"))}
    assert lost == {"EIO", "EBADMSG", "EUCLEAN"}
    assert disk.is_damage(disk.NotOrdinaryError("a FIFO"))
    assert not disk.is_damage(OSError("without a number"))


@pytest.mark.parametrize(
    ("advice", "names"),
    [
        ("its content is in iCloud", "EDEADLK"),
        (
            "the share or disk that holds it does not answer: mount it again",
            " ".join(_AWAY),
        ),
        ("check the path", "ENOENT ENOTDIR EISDIR ELOOP"),
        ("run as the user that made the backups", "EACCES EPERM EROFS"),
    ],
)
def test_the_hint_for_a_file_that_was_not_checked_is_that_of_its_errno(
    advice: str, names: str
) -> None:
    """A share that has gone away is to be mounted, and no disk is looked at for it."""
    errors = [OSError(getattr(errno, name), "no") for name in names.split()]
    told = [disk.not_checked(error, Path("/srv/gym.db")).hint for error in errors]
    assert [hint.startswith(advice) for hint in told] == [True] * len(told)


def test_what_is_missing_is_told_from_what_cannot_be_seen(tmp_path: Path) -> None:
    """A path below a file and a loop of links lead nowhere; too long a name says nothing."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    nowhere = [tmp_path / "none", tmp_path / "file" / "x", tmp_path / "loop"]
    assert [files.is_there(path) for path in nowhere] == [False] * 3
    assert [files.is_folder(path) for path in (*nowhere, tmp_path / "file")] == [False] * 4
    assert (files.is_there(tmp_path / "file"), files.is_folder(tmp_path)) == (True, True)
    for ask in (files.is_there, files.is_folder):
        with pytest.raises(OSError, match="too long"):
            ask(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "disk-full"), (errno.EACCES, "not-allowed"), (errno.EMFILE, "read-failed")],
)
def test_a_refusal_that_nobody_has_told_apart_names_what_it_met(number: int, code: str) -> None:
    """Not knowing whether it was read or written, it says neither."""
    told = disk.system_error(OSError(number, os.strerror(number), "/opt/gymdbd/x.py"))
    assert told.code == code
    assert told.message == (f"the operating system refused /opt/gymdbd/x.py: {os.strerror(number)}")
    assert told.hint


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, DiskFullError),
        (errno.EDQUOT, DiskFullError),
        (errno.EFBIG, DiskFullError),
        (errno.EACCES, NotWritableError),
        (errno.EPERM, NotWritableError),
        (errno.EROFS, NotWritableError),
        (errno.ENOENT, FolderMissingError),
        (errno.ENOTDIR, FolderMissingError),
        (errno.EIO, WriteFailedError),
        (errno.ESTALE, WriteFailedError),
    ],
)
def test_every_error_of_the_system_becomes_one_of_ours(
    number: int, kind: type[GymdbdError]
) -> None:
    """It names the path, keeps the cause, and says what to do."""
    path = Path("/srv/archive/gym.db")
    cause = OSError(number, os.strerror(number))
    with pytest.raises(GymdbdError) as caught, files.writing(path):
        raise cause
    assert type(caught.value) is kind
    assert str(path) in caught.value.message
    assert caught.value.hint != ""
    assert caught.value.__cause__ is cause


def test_an_error_without_a_number_becomes_one_of_ours() -> None:
    """Python raises some OSErrors itself; their text is all there is."""
    with pytest.raises(WriteFailedError, match="it broke"), files.writing(Path("x")):
        raise OSError("it broke")


def test_an_absolute_path_keeps_its_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a link leads to may change; the configuration and messages name the link."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert files.absolute("link/../link/gym.db") == tmp_path / "link" / "gym.db"


def test_writing_atomically_replaces_the_bytes(tmp_path: Path) -> None:
    """For its owner only, and with nothing left beside it."""
    path = tmp_path / "status.json"
    path.write_text("old")
    files.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert _mode(path) == 0o600
    assert _names(tmp_path) == ["status.json"]


def test_a_reader_keeps_the_old_bytes_while_they_are_replaced(tmp_path: Path) -> None:
    """The file is another one afterwards, not the same with other bytes."""
    path = tmp_path / "status.json"
    path.write_text("old")
    with path.open() as reader:
        files.write_atomically(path, b"something new and longer")
        assert reader.read() == "old"


def test_writing_into_a_missing_folder_is_a_missing_folder(tmp_path: Path) -> None:
    """It is not created: a disk that is not mounted must not go unnoticed."""
    with pytest.raises(FolderMissingError):
        files.write_atomically(tmp_path / "gone" / "status.json", b"new")
    assert _names(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_bytes_and_no_partial(tmp_path: Path) -> None:
    """Here the rename fails, since a folder has the name."""
    (tmp_path / "status.json").mkdir()
    with pytest.raises(WriteFailedError):
        files.write_atomically(tmp_path / "status.json", b"new")
    assert _names(tmp_path) == ["status.json"]


def test_a_file_that_grows_too_large_leaves_the_old_bytes_and_no_partial(tmp_path: Path) -> None:
    """A limit of the system is met in mid-write, as a full disk would be."""
    path = tmp_path / "status.json"
    files.write_atomically(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(DiskFullError):
            files.write_atomically(path, b"x" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _names(tmp_path) == ["status.json"]
    assert path.read_bytes() == b"old"


def test_publishing_gives_a_partial_its_final_name(tmp_path: Path) -> None:
    """The partial lies hidden beside it and is gone afterwards; what was there is replaced."""
    final = tmp_path / "gym.db"
    final.write_text("old")
    partial = partials.begin(final)
    partial.write_text("new")
    assert (partial.parent, partial.name[:8]) == (tmp_path, ".gym.db.")
    files.publish(partial, final)
    assert final.read_text() == "new"
    assert _names(tmp_path) == ["gym.db"]


def test_publishing_nothing_is_an_error(tmp_path: Path) -> None:
    """A partial that vanished does not take the published file with it."""
    (tmp_path / "gym.db").write_text("old")
    with pytest.raises(FolderMissingError):
        files.publish(tmp_path / ".gym.db.partial", tmp_path / "gym.db")
    assert (tmp_path / "gym.db").read_text() == "old"


def test_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    """All that are missing; one that is there keeps its mode."""
    (tmp_path / "data").mkdir(mode=0o755)
    files.make_folder(tmp_path / "data" / "backups" / "database")
    files.make_folder(tmp_path / "data" / "backups" / "database")
    assert _mode(tmp_path / "data") == 0o755
    assert _mode(tmp_path / "data" / "backups") == 0o700
    assert _mode(tmp_path / "data" / "backups" / "database") == 0o700


def test_a_folder_below_a_file_cannot_be_made(tmp_path: Path) -> None:
    """The error is one of ours."""
    (tmp_path / "data").write_text("")
    with pytest.raises(FolderMissingError):
        files.make_folder(tmp_path / "data" / "backups")


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    """Twice is as good as once; a folder is not removed."""
    (tmp_path / "x").write_text("")
    files.remove(tmp_path / "x")
    files.remove(tmp_path / "x")
    assert _names(tmp_path) == []
    (tmp_path / "folder").mkdir()
    with pytest.raises((WriteFailedError, NotWritableError)):
        files.remove(tmp_path / "folder")


def test_more_space_than_any_disk_has_is_refused(tmp_path: Path) -> None:
    """The message has both sizes for people, the hint what can be done."""
    with pytest.raises(DiskFullError, match=r"but 1153433\.6 TiB are needed") as caught:
        files.require_space(tmp_path, 2**60)
    assert "keep" in caught.value.hint


def test_space_in_a_missing_folder_is_a_missing_folder(tmp_path: Path) -> None:
    """Not a full disk."""
    with pytest.raises(FolderMissingError):
        files.require_space(tmp_path / "gone", 1)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 1024**2, "3.0 MiB"),
        (5.5 * 1024**3, "5.5 GiB"),
        (2 * 1024**4, "2.0 TiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_sizes_are_written_for_people(size: float, text: str) -> None:
    """In the binary unit that leaves a small number."""
    assert files.to_size(size) == text


def test_a_clone_is_a_file_of_its_own(tmp_path: Path) -> None:
    """The same bytes for its owner only; writing to one does not change the other."""
    assert expect_clone(tmp_path) in ("clone", "kernel")


def test_a_clone_of_what_the_kernel_cannot_copy_is_read(tmp_path: Path) -> None:
    """A file of the kernel has no size, and nothing that could be shared."""
    how = files.clone(Path("/proc/version"), tmp_path / "target")
    assert how == "plain"
    assert (tmp_path / "target").read_bytes() == Path("/proc/version").read_bytes()


def test_a_clone_replaces_what_a_crash_left_at_its_target(tmp_path: Path) -> None:
    """No longer end of an older file shows behind the new one."""
    (tmp_path / "source").write_bytes(b"short")
    (tmp_path / "target").write_bytes(b"long" * 100_000)
    files.clone(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"short"


def test_files_and_folders_can_be_synced(tmp_path: Path) -> None:
    """Also a file that may only be read, and a folder whose file system has no disk."""
    (tmp_path / "x").write_text("")
    (tmp_path / "x").chmod(0o400)
    files.sync_file(tmp_path / "x")
    files.sync_folder(tmp_path)
    files.sync_folder(Path("/proc/self"))


def test_a_flush_meanwhile_that_fails_is_told_when_the_work_is_done(tmp_path: Path) -> None:
    """What the work itself has to say goes first."""
    with files.syncing(Path(__file__)):
        pass
    done = []
    with pytest.raises(FolderMissingError), files.syncing(tmp_path / "none"):
        done.append("work")
    assert done == ["work"]
    with pytest.raises(ZeroDivisionError), files.syncing(tmp_path / "none"):
        raise ZeroDivisionError


def test_syncing_a_folder_that_is_none_is_an_error(tmp_path: Path) -> None:
    """It is left to `writing` to name it."""
    (tmp_path / "x").write_text("")
    with pytest.raises(FolderMissingError), files.writing(tmp_path / "x"):
        files.sync_folder(tmp_path / "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_root_makes_in_the_folder_of_another_user_is_that_users(tmp_path: Path) -> None:
    """A replaced file keeps its owner and group, a new one gets the folder's; so do locks."""
    os.chown(tmp_path, 12345, 12346)
    new, kept, folder = tmp_path / "new", tmp_path / "kept", tmp_path / "folder"
    kept.write_bytes(b"before")
    os.chown(kept, 12347, 12348)
    for final in (new, kept):
        files.write_atomically(final, b"written")
        partial = partials.begin(final)
        partial.write_bytes(b"published")
        files.publish(partial, final)
    files.make_folder(folder)
    lock_path = lock.file_lock(new)
    with lock.hold([lock_path]):
        owners = [(one.stat().st_uid, one.stat().st_gid) for one in (new, folder, lock_path, kept)]
    assert owners == [(12345, 12346)] * 3 + [(12347, 12348)]


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_new_file_replaces_nothing(tmp_path: Path, kind: str) -> None:
    """What has the name stays; a free name is taken by the whole file, with its mode."""
    path = tmp_path / "config.yaml"
    assert files.write_new(path, b"new", mode=files.PUBLIC_MODE)
    assert (path.read_bytes(), _mode(path)) == (b"new", files.PUBLIC_MODE)
    if kind != "file":
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    assert not files.write_new(path, b"newer")
    assert _names(tmp_path) == ["config.yaml"]
    assert path.is_symlink() or path.read_bytes() == b"new"
