"""Files of the other machine, read over SFTP."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from gymdbd.source import ownership
from gymdbd.source.errors import SourceMissingError, SourceNotAFileError, SourceUnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import paramiko

    from gymdbd.remote.pace import Pace

# SFTP reads of 32 KiB are requested in batches of 2 MiB, a whole batch at once. paramiko can also
# keep a number of requests in flight, but its thread for that polls every 10 ms and never ends
# if the connection breaks; a batch's thread ends once it has sent. Medians on loopback,
# 150 MB, MB/s: batches of 16 requests 202, 64: 186, 256: 164, 1024: 151; paramiko's `getfo` with
# 16 in flight 131, 64: 107, 256: 107, no limit 121. Two MiB also fill a link of 100 MB/s and 20 ms.
_REQUEST_BYTES = 32 * 1024
_BATCH_BYTES = 64 * _REQUEST_BYTES
_MOST_NAMES = 100_000


@dataclass(frozen=True)
class FileFacts:
    """Size in bytes, and the time of the last change in whole seconds of that machine's clock.

    `ownership` is that of gymdbd.source.ownership, by numbers only; not compared.
    """

    size: int
    changed_at: int
    ownership: dict[str, Any] | None = field(default=None, compare=False)


class RemoteFiles:
    """The other machine's files, read at `pace`; `guard` turns paramiko's errors into ours."""

    def __init__(
        self,
        client: paramiko.SFTPClient,
        *,
        guard: Callable[[], AbstractContextManager[None]],
        check: Callable[[], None],
        pace: Pace,
    ) -> None:
        self._client = client
        self._pace = pace
        self._guard = guard
        self._check = check

    def find(self, path: str) -> FileFacts | None:
        """Return a file's stat, None if it is absent; never opens it."""
        with self._guard(), _reading(path):
            try:
                found = self._client.stat(_to_remote(path))
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(found.st_mode or 0):
            raise SourceNotAFileError(
                f"{path} on the other machine is not a regular file",
                hint="name the .db file itself",
            )
        return FileFacts(found.st_size or 0, found.st_mtime or 0, _ownership(found))

    def names(self, folder: str) -> list[str]:
        """List the names in a folder; SourceMissingError if it is absent."""
        with self._guard(), _reading(folder):
            try:
                # A server may go on for ever.
                entries = self._client.listdir_iter(_to_remote(folder))
                names = [entry.filename for entry in itertools.islice(entries, _MOST_NAMES + 1)]
            except FileNotFoundError as error:
                raise SourceMissingError(
                    f"there is no folder {folder} on the other machine",
                    hint="check its path; a relative one starts in the home folder there",
                ) from error
            except UnicodeDecodeError as error:
                raise SourceUnreadableError(
                    f"{folder} on the other machine holds a name that is not UTF-8",
                    hint="rename that file, or name a folder that holds nothing but backups",
                ) from error
        if len(names) > _MOST_NAMES:
            raise SourceUnreadableError(
                f"{folder} on the other machine has more than {_MOST_NAMES:,} names",
                hint="name a folder that holds nothing but backups",
            )
        return names

    def read_head(self, path: str, size: int) -> bytes:
        """Return the first `size` bytes of a file, fewer if it is shorter or absent."""
        with self._guard(), _reading(path):
            try:
                file = self._client.open(_to_remote(path), "rb", 0)
            except FileNotFoundError:
                return b""
            with contextlib.closing(file):
                return file.read(size)

    def copy(self, path: str, size: int, target: BinaryIO, progress: Callable[[int], None]) -> bool:
        """Write the first `size` bytes of a file into `target`; False if it is shorter now."""
        done = 0
        for piece in self._pieces(path, size):
            # Outside the guard: a local failure is not the connection's.
            target.write(piece)
            done += len(piece)
            progress(done)
        return done == size

    def _pieces(self, path: str, size: int) -> Iterator[bytes]:
        """Yield the first `size` bytes of a file in order; stop if it ends early."""
        with self._guard(), _reading(path):
            try:
                file = self._client.open(_to_remote(path), "rb", 0)
            except FileNotFoundError:
                return
            for start in range(0, size, _BATCH_BYTES):
                self._check()
                end = min(size, start + _BATCH_BYTES)
                asked = [
                    (at, min(_REQUEST_BYTES, end - at)) for at in range(start, end, _REQUEST_BYTES)
                ]
                for (_, wanted), piece in zip(asked, file.readv(asked), strict=True):
                    self._pace.count(len(piece))
                    yield piece
                    self._pace.wait(self._check)
                    if len(piece) < wanted:
                        return
            # Not closed when the connection fails: that would wait once more for a dead peer.
            file.close()


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn an SFTP server's answers about a file into our errors."""
    try:
        yield
    except PermissionError as error:
        raise SourceUnreadableError(
            f"{path} on the other machine cannot be read: permission denied",
            hint="log in as its owner (user: in the configuration), or let that user read it",
        ) from error
    except OSError as error:
        # A server's answer has no errno; an error with one is about the connection.
        if error.errno is not None or isinstance(error, TimeoutError):
            raise
        raise SourceUnreadableError(
            f"{path} on the other machine cannot be read ({error})",
            hint="its disk may be failing: see dmesg over there",
        ) from error


def _to_remote(path: str) -> bytes:
    """Name a path for SFTP, where names start in the home folder and `~` means nothing."""
    return os.fsencode(path.removeprefix("~/"))


def _ownership(found: paramiko.SFTPAttributes) -> dict[str, Any] | None:
    """Return a file's ownership as SFTP reports it; a server may omit it."""
    if found.st_mode is None or found.st_uid is None or found.st_gid is None:
        return None
    return ownership.describe(found.st_mode, found.st_uid, found.st_gid, names=False)
