"""As whom this process acts: root becomes the user who decides about the files it is to open.

In a folder of another user, every name is that user's choice: the database may be a link to a file
that only root may read, a lock or a partial file one to a file that only root may write. So root
becomes that user, for good, before it opens anything there.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import pkgutil
import pwd
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from socket import socket, socketpair
from typing import TYPE_CHECKING, Any

import gymdbd
from gymdbd import bounded
from gymdbd.source.errors import GymdbdError, to_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_MOST_LINKS = 40
_NO_GROUP = 65534
# What belongs to root's session, and would be wrong or of no use to the user whom it becomes.
_OF_ROOTS = ("SSH_AUTH_SOCK", "TMPDIR", "MAIL", "OLDPWD", "KRB5CCNAME", "DBUS_SESSION_BUS_ADDRESS")
# What is imported only if needed: for the name of a host, a table, a progress bar, the journal.
_LATE = (
    *(f"encodings.{name}" for name in ("ascii", "idna", "unicode_escape")),
    *("rich._emoji_codes", "rich.progress", "logging_journald"),
)
_FIRST_OWN = 3
# A disk of that user's own making (FUSE) may never answer.
_PATIENCE_S = 30
_MOST_OPEN = 65536  # Without a limit, macOS names a number that no loop can reach.


class ActingError(GymdbdError, code="acting"):
    """Root may not, or must not, act as the user to whom a folder belongs."""


@dataclass(frozen=True)
class User:
    """A user other than root, and the group to act with."""

    uid: int
    gid: int

    @functools.cached_property
    def name(self) -> str:
        """Return the name of the user, the number if there is none."""
        account = _account(self.uid)
        return account.pw_name if account else f"uid {self.uid}"


def decider(path: Path) -> User | None:
    """Return the user who decides what is at `path`; None if only root does, or this is not root.

    That is the owner of the first file, folder or link on the way from the root folder that does
    not belong to root: whatever comes after it is that user's to choose. A file counts only in a
    folder that others may write: in one of root's, root has put it there.
    """
    if os.geteuid() != 0:
        return None
    place, ahead, links = Path("/"), list(reversed(path.absolute().parts[1:])), 0
    open_to_others = False
    while ahead:
        part = ahead.pop()
        if part == os.pardir:
            place = place.parent
            continue
        try:
            found = os.lstat(place / part)
        except OSError:
            return None
        if found.st_uid != 0 and (open_to_others or not stat.S_ISREG(found.st_mode)):
            return _user(found)
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                return None
            target = Path(os.readlink(place / part))  # noqa: PTH115 - as it is written
            ahead += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            place = Path("/") if target.is_absolute() else place
        else:
            place /= part
            open_to_others = bool(found.st_mode & 0o022)
    return None


@contextlib.contextmanager
def reading_as_owner(path: Path) -> Iterator[None]:
    """Open files as the owner of `path` in the block, if this is root: for one that root names.

    It is for a process with one thread.
    """
    uid = 0
    with contextlib.suppress(OSError):
        uid = path.stat().st_uid
    if os.geteuid() != 0 or uid == 0:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def _user(found: os.stat_result) -> User:
    """Return the owner, acting with the group of the file if that is one of theirs."""
    account = _account(found.st_uid)
    if account is None:
        return User(found.st_uid, found.st_gid or _NO_GROUP)
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return User(found.st_uid, found.st_gid if found.st_gid in groups else account.pw_gid)


def _account(uid: int) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid)
    return None


def deciders(paths: Iterable[Path]) -> set[User | None]:
    """Return who decides about `paths`, None for root."""
    return {decider(path) for path in paths}


def several(users: dict[User | None, Path]) -> ActingError:
    """Build the error for paths that different users decide about, where one has to act."""
    told = [f"{place} belongs to {user.name if user else 'root'}" for user, place in users.items()]
    return ActingError(
        f"root would have to act as several users: {', '.join(told)}",
        hint="name only what belongs to one of them, or run this as a user who may use all of it",
    )


def become(user: User) -> None:
    """Make this process one of `user`, with all groups and the home of that user, for good."""
    _load_all_if_closed()
    account = _account(user.uid)
    try:
        if account is None:
            os.setgroups([user.gid])
        else:
            os.initgroups(account.pw_name, user.gid)
        os.setgid(user.gid)
        os.setuid(user.uid)
    except OSError as error:
        raise ActingError(
            f"this process may not act as {user.name} ({error.strerror})",
            hint=f"run it as that user (sudo -u {user.name}), or with the capabilities SETUID and "
            "SETGID",
        ) from error
    home = account.pw_dir if account else "/nonexistent"
    for name in [*_OF_ROOTS, *(key for key in os.environ if key.startswith(("XDG_", "SUDO_")))]:
        os.environ.pop(name, None)
    os.environ |= {"HOME": home, "USER": user.name, "LOGNAME": user.name}


@functools.cache
def _load_all_if_closed() -> None:
    """Import all of gymdbd now if other users may not read it or Python, as in root's own home."""
    places = {Path(gymdbd.__file__), Path(os.__file__)}
    folders = {folder for place in places for folder in place.resolve().parents}
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in folders):
        return
    for module in pkgutil.walk_packages(gymdbd.__path__, "gymdbd."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)
    for name in _LATE:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def start(user: User | None, work: Callable[[socket], None]) -> socket:
    """Start a process that does `work` as `user`, None for root; return a connection to it.

    It is a fork, so that the user needs no access to where gymdbd is installed, and may not trace
    it. Nothing else that this process has open is open there. It has to end when the connection is
    closed.
    """
    _load_all_if_closed()
    ours, theirs = socketpair()
    if os.fork():
        theirs.close()
        return ours
    # Nothing of the process that it was forked from may run on here.
    with contextlib.suppress(BaseException):
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ours.close()
        os.closerange(_FIRST_OWN, theirs.fileno())
        os.closerange(theirs.fileno() + 1, min(os.sysconf("SC_OPEN_MAX"), _MOST_OPEN))
        if user is not None:
            become(user)
        work(theirs)
    os._exit(0)


def done_by_decider(path: Path, work: Callable[[], Any]) -> Any:
    """Return what `work` does at `path`, as JSON has it; another process does it for another user.

    That is the user who decides about the path. Raises the GymdbdError of the work, or ActingError.
    """
    user = decider(path)
    if user is None:
        return work()

    def tell(line: socket) -> None:
        signal.alarm(_PATIENCE_S)
        try:
            answer = {"found": work()}
        except GymdbdError as error:
            answer = {"code": error.code, "message": error.message, "hint": error.hint}
        line.sendall(json.dumps(answer).encode())

    with start(user, tell) as answering, answering.makefile("rb") as stream:
        answer = bounded.parse(stream.read(bounded.MOST_BYTES) or b"{}")
    if answer.get("message"):
        raise to_error(answer)
    if "found" not in answer:
        raise ActingError(
            f"what {user.name} decides about did not answer, or is odd: {path}",
            hint="name a place of root's, or let the daemon run as that user",
        )
    return answer["found"]
