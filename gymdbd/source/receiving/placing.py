"""Putting a database into its place: whole and proven, or not at all.

It is written beside its place, under a name that nobody can foresee, and only its user may read it.
It gets its name when its bytes on the disk are those that were sent, and nothing has that name.
What is in the way is renamed, never removed: SQLite would apply the -wal of another database.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List

from gymdbd.source import ownership, processes
from gymdbd.source.errors import PlaceError, PlaceTakenError
from gymdbd.source.format import beside
from gymdbd.source.receiving import looking
from gymdbd.source.receiving.durable import flush, is_locked_by_us
from gymdbd.source.receiving.handover import hand_over

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODE = 0o600
_PARTIAL, _TOKEN_BYTES = ".gymdbd-rebuild-", 8
_PIECE_BYTES = 1024 * 1024
_REPORT_BYTES = 32 * 1024 * 1024
# Flushed as they come: the client waits for each flush, so none may be long.
_FLUSH_BYTES = 8 * 1024 * 1024
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Place:
    """Where a database of `size` bytes is to be: nothing is there, or it is saved first.

    `stamp` is the time in the names of what is saved. Everything is written in the folder that was
    opened, whatever becomes of its name meanwhile. Raises PlaceTakenError if something is there,
    another PlaceError if nothing can be put there, AnotherFileError if a process still has the file
    open that was there.
    """

    def __init__(self, path: Path, size: int, *, replace: bool, stamp: str) -> None:
        # The links of the folder are the user's own; what has the name itself is looked at.
        self.path = Path(os.path.realpath(path.parent), path.name)
        self.saved = self.path.with_name(f"{path.name}.before-rebuild-{stamp}")
        self.size = size
        self.replace = replace
        self.makes_folder = False
        self._written = self._flushed = 0
        self._folder = self._file = -1
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        self._prefix = f"{_PARTIAL}{digest}-"
        self._partial = self._prefix + os.urandom(_TOKEN_BYTES).hex()

    def look(self) -> Dict[str, Any]:
        """Check everything that can be checked without a change; return what would be done."""
        return looking.look(self.path, self.saved, self.size, replace=self.replace)

    def begin(self) -> None:
        """Open a file in the folder, which is made if need be; what crashed runs left goes."""
        folder = self.path.parent
        if looking.facts(folder) is None:
            folder.mkdir()
            self.makes_folder = True
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        leftover = re.compile(rf"{re.escape(self._prefix)}[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
        for name in os.listdir(self._folder):  # noqa: PTH208 - of an open folder
            if leftover.fullmatch(name):
                self._remove_leftover(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._partial, flags, _MODE, dir_fd=self._folder)
        is_locked_by_us(self._file)

    def _remove_leftover(self, name: str) -> None:
        """Remove the file of a run that has ended; PlaceError if it is still at work."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(FileNotFoundError):
            file = os.open(name, flags, dir_fd=self._folder)
            try:
                if not is_locked_by_us(file):
                    raise PlaceError(
                        f"another rebuild of {self.path} is at work",
                        hint="wait for its end, or stop it where it was started",
                    )
                os.unlink(name, dir_fd=self._folder)
            finally:
                os.close(file)

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        view = memoryview(data)
        while view:
            done = os.write(self._file, view)
            view, self._written = view[done:], self._written + done
        if self._written > self.size:
            raise PlaceError("more bytes arrived than were announced", hint="run this again")
        if self._written - self._flushed >= _FLUSH_BYTES:
            getattr(os, "fdatasync", os.fsync)(self._file)
            self._flushed = self._written

    def digests(self) -> Iterator[object]:
        """Read the file back from the disk: yield how far that is, and in the end its SHA-256."""
        flush(self._file)
        if sys.platform == "linux":
            # What is read from memory proves nothing of the disk.
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_DONTNEED)
        digest, at = hashlib.sha256(), 0
        while piece := os.pread(self._file, _PIECE_BYTES, at):
            digest.update(piece)
            at += len(piece)
            if at % _REPORT_BYTES == 0:
                yield at
        yield digest.hexdigest()

    def publish(self, owner: Any) -> Dict[str, Any]:
        """Give the file its mode and owner, and then its name; return what was done.

        `owner` is what a manifest has of them (gymdbd.source.ownership).
        """
        like = self.path.parent.parent.stat() if self.makes_folder else os.fstat(self._folder)
        remarks = hand_over(self._file, owner, like, self.path)
        if self.makes_folder:
            made = os.fstat(self._file)
            with contextlib.suppress(PermissionError):
                os.fchown(self._folder, made.st_uid, made.st_gid)
        flush(self._file)
        # Much time has passed since the first look.
        looking.require_free(self.path, self.saved, replace=self.replace)
        there, sides = looking.facts(self.path) is not None, looking.sides(self.path)
        if there:
            self._save(sides)
        else:
            self._set_aside(sides)
        flush(self._folder)
        self._take_name()
        self._flush_names()
        if there and (holders := processes.holders(self.saved)):
            who = processes.describe(holders)
            remarks.append(f"{who} has opened the former file meanwhile: restart it")
        return {
            "saved": str(self.saved) if there else None,
            "aside": [] if there else [str(beside(self.saved, suffix)) for suffix in sides],
            "ownership": ownership.read(self.path),
            "remarks": remarks,
        }

    def _save(self, sides: List[str]) -> None:
        """Rename the file that is there, with the files beside it.

        These get their second names first and lose their first ones last: at no moment does the
        database lack its WAL, by either name.
        """
        name, saved = self.path.name, self.saved.name
        try:
            for suffix in sides:
                self._within(os.link, name + suffix, saved + suffix)
        except OSError as error:
            raise PlaceError(
                f"{name} cannot be saved as {saved} ({error.strerror})",
                hint=f"move it to another folder over there, together with its "
                f"{', '.join(sides)}; nothing has changed",
            ) from error
        self._within(os.rename, name, saved)
        flush(self._folder)
        for suffix in sides:
            os.unlink(name + suffix, dir_fd=self._folder)

    def _set_aside(self, sides: List[str]) -> None:
        """Rename what is left of a database that is not there."""
        for suffix in sides:
            self._within(os.rename, self.path.name + suffix, self.saved.name + suffix)

    def _take_name(self) -> None:
        """Name the file, unless something has taken the name meanwhile: an application may."""
        try:
            self._within(os.link, self._partial, self.path.name)
        except OSError as error:
            if looking.facts(self.path) is not None or error.errno not in _NO_LINKS:
                raise self._not_named(error) from error
            # A file system without links, such as FAT.
            self._within(os.rename, self._partial, self.path.name)
        else:
            os.unlink(self._partial, dir_fd=self._folder)

    def _within(self, call: Any, source: str, target: str) -> None:
        """Rename or link a file in the open folder."""
        more = {"follow_symlinks": False} if call is os.link else {}
        call(source, target, src_dir_fd=self._folder, dst_dir_fd=self._folder, **more)

    def _not_named(self, error: OSError) -> PlaceError:
        saved = looking.facts(self.saved) is not None
        kept = f"; the file that was there is {self.saved} now" if saved else ""
        return PlaceTakenError(
            f"{self.path} could not get its name ({error.strerror})",
            hint=f"if an application has made a file there, stop it, and run this again{kept}",
        )

    def _flush_names(self) -> None:
        flush(self._folder)
        if self.makes_folder:
            above = os.open(self.path.parent.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                flush(above)
            finally:
                os.close(above)

    def close(self) -> None:
        """Remove the file unless it got its name, and a folder that was made for it."""
        if self._file >= 0:
            os.close(self._file)
            with contextlib.suppress(OSError):
                os.unlink(self._partial, dir_fd=self._folder)
        if self._folder >= 0:
            os.close(self._folder)
        if self.makes_folder:
            with contextlib.suppress(OSError):
                # Only if it is empty.
                self.path.parent.rmdir()
