"""A configuration or a command that others could have written is not obeyed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import trust
from gymdbd.config import config
from gymdbd.errors import ConfigError
from tests.support import everyone
from tests.support.command import gymdbd, require
from tests.support.databases import make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from collections.abc import Iterator

_OTHER = 12002
# Every Debian has these: one with a group of its own, and one whose group others have too.
_DAEMON, _NOBODY = 1, 65534
# A group that no user has as the first one.
_TTY = 5


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder that every user may enter, with a configuration in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="gymdbd-trust-"))
    folder.chmod(0o755)
    (folder / "own").mkdir(mode=0o755)
    job = {"schedule": "0 3 * * *", "database": "gym.db", "archive": "archive"}
    write_config(folder / "own", {"nightly": job}).chmod(0o644)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _as(uid: int) -> Iterator[None]:
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def _refusal(path: Path) -> str:
    """Return why a configuration is refused, "" if it is not."""
    try:
        config.load(path)
    except ConfigError as error:
        return error.message.partition("others could have written it: ")[2]
    return ""


def test_a_configuration_of_another_user_is_refused(place: Path) -> None:
    """Root's is not, whoever reads it, and ours is not."""
    path = place / "own" / "config.yaml"
    with _as(_OTHER):
        assert _refusal(path) == ""
    os.chown(path, _OTHER, _OTHER)
    assert _refusal(path) == f"{path} belongs to uid {_OTHER}"
    with _as(_DAEMON):
        assert _refusal(path) == f"{path} belongs to uid {_OTHER}"
    os.chown(place / "own", _OTHER, _OTHER)
    with _as(_OTHER):
        assert _refusal(path) == ""


@pytest.mark.parametrize(
    ("owner", "group", "mode", "who"),
    [
        (0, 0, 0o664, ""),
        (0, _OTHER, 0o664, f"the group {_OTHER}"),
        (0, 0, 0o646, "every user"),
        (_DAEMON, _DAEMON, 0o664, ""),
        (_DAEMON, _DAEMON, 0o646, "every user"),
        (_DAEMON, 0, 0o664, "the group root"),
        (_DAEMON, _TTY, 0o664, "the group tty"),
        (_NOBODY, _NOBODY, 0o664, "the group nogroup"),
    ],
)
def test_a_file_that_others_may_write_is_refused(
    place: Path, owner: int, group: int, mode: int, who: str
) -> None:
    """A group may write to it only if it is its owner's own, without another member."""
    path = place / "own" / "config.yaml"
    os.chown(path, owner, group)
    path.chmod(mode)
    with _as(owner):
        assert _refusal(path) == (f"{who} may write to {path}" if who else "")


# Makes the user `games` a member of the group `daemon`, in mounts of this process alone.
_JOIN = "sed 's/^daemon:.*/&games/' /etc/group > $1/group; mount --bind $1/group /etc/group; shift"


def test_a_member_of_the_owners_group_may_write(place: Path) -> None:
    """Although it is no other user's first one."""
    path = place / "own" / "config.yaml"
    os.chown(path, _DAEMON, _DAEMON)
    path.chmod(0o664)
    shell = ["unshare", "--mount", "sh", "-ec", f'{_JOIN}; exec "$@"', "sh", str(place)]
    everyone.install()
    user = [*everyone.ENVIRONMENT, *shell, "setpriv", f"--reuid={_DAEMON}", "--clear-groups"]
    done = gymdbd("-c", path, "list", prefix=user)
    assert (done.returncode, f"the group daemon may write to {path}" in done.stderr) == (2, True)


def test_a_file_system_without_access_control_lists_is_judged_by_modes(place: Path) -> None:
    """Such as FAT, which a mount lets root's group write to; here the kernel is made to say so."""
    path = place / "own" / "config.yaml"
    path.parent.chmod(0o775)
    refusing = ["-e", "inject=listxattr,flistxattr:error=EOPNOTSUPP"]
    words = [require("strace"), "-f", "-o", place / "calls", "-e", "trace=listxattr", *refusing]

    done = gymdbd("-c", path, "check", prefix=list(map(str, words)))

    assert "EOPNOTSUPP" in (place / "calls").read_text()
    assert "could have written it" not in done.stderr
    assert "not supported" not in done.stderr


def test_it_is_the_open_file_that_counts(place: Path) -> None:
    """Its name may be that of another one by now; and a pipe has none."""
    ours, theirs = place / "own" / "config.yaml", place / "theirs"
    theirs.write_text("")
    os.chown(theirs, _OTHER, _OTHER)
    with theirs.open("rb") as file:
        assert trust.doubt_of(file.fileno(), ours) is not None
    with ours.open("rb") as file:
        assert trust.doubt_of(file.fileno(), theirs) is not None
        assert trust.doubt_of(file.fileno(), ours) is None
    ends = os.pipe()
    assert trust.doubt_of(ends[0], Path(f"/dev/fd/{ends[0]}")) is None
    for end in ends:
        os.close(end)


def test_an_access_list_may_let_others_write(place: Path) -> None:
    """It shows as the group's bits alone."""
    path = place / "own" / "config.yaml"
    # user::rw- user:12002:rw- group::r-- mask::rw- other::r--, as the kernel keeps it.
    entries = ((1, 6, -1), (2, 6, _OTHER), (4, 4, -1), (0x10, 6, -1), (0x20, 4, -1))
    data = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little")
        + may.to_bytes(2, "little")
        + who.to_bytes(4, "little", signed=True)
        for tag, may, who in entries
    )
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        there = shutil.copy(path, folder)
        os.setxattr(there, "system.posix_acl_access", data)
        assert _refusal(Path(there)) == f"the group root may write to {there}"


def test_whoever_can_replace_the_file_could_have_written_it(place: Path) -> None:
    """By a folder above it, unless only owners may rename there; by a link on the way too."""
    path, folder = place / "own" / "config.yaml", place / "own"
    folder.chmod(0o777)
    assert _refusal(path) == f"every user may write to {folder}"
    folder.chmod(0o1777)
    assert _refusal(path) == ""
    link = folder / "link.yaml"
    link.symlink_to(path)
    assert _refusal(link) == ""
    os.chown(link, _OTHER, _OTHER, follow_symlinks=False)
    assert _refusal(link) == f"{link} belongs to uid {_OTHER}"
    folder.chmod(0o755)
    (place / "open").mkdir(mode=0o755)
    (place / "open").chmod(0o777)
    (place / "open" / "there").symlink_to("../own")
    (place / "way").symlink_to("open/there")
    assert _refusal(place / "way" / "config.yaml") == f"every user may write to {place / 'open'}"


def test_a_loop_of_links_and_a_missing_file_are_errors(place: Path) -> None:
    """Neither is trusted."""
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        trust.doubt(place / "a")
    with pytest.raises(FileNotFoundError):
        trust.doubt(place / "missing")


def test_the_configuration_in_the_current_folder_is_not_looked_for(place: Path) -> None:
    """The error says how to name it."""
    make_database(place / "own" / "gym.db")
    done = gymdbd("list", cwd=place / "own", HOME="/nonexistent")
    assert (done.returncode, done.stdout) == (2, "")
    assert "-c ./config.yaml" in done.stderr
    done = gymdbd("-c", "./config.yaml", "check", cwd=place / "own", HOME="/nonexistent")
    assert "there is no configuration" not in done.stderr
    assert "-c ./config.yaml" not in gymdbd("list", cwd=place, HOME="/nonexistent").stderr


def test_a_huge_configuration_is_not_read_into_memory(place: Path) -> None:
    """It is refused for its size, within the memory that a small one takes."""
    huge = place / "huge.yaml"
    huge.touch()
    os.truncate(huge, 1 << 33)
    done = subprocess.run(
        ["prlimit", f"--as={1 << 30}", sys.executable, "-P", "-m", "gymdbd", "-c", huge, "check"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "larger than" in done.stderr) == (2, True), done.stderr
