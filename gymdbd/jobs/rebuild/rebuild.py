"""Rebuilding a database on another machine: it is put there whole and proven, or not at all."""

from __future__ import annotations

import contextlib
import shlex
from datetime import UTC
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.jobs import peer
from gymdbd.jobs.context import Timings
from gymdbd.jobs.rebuild import content
from gymdbd.jobs.rebuild.result import RebuildResult
from gymdbd.remote.errors import AuthenticationError, ChannelRefusedError
from gymdbd.source.errors import PlaceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gymdbd.config.kinds import PullConfig, RebuildConfig
    from gymdbd.jobs.context import Context
    from gymdbd.jobs.rebuild.content import Content, Proven
    from gymdbd.remote.putting import Placed, Putting, There
    from gymdbd.remote.ssh.ssh import Connection
    from gymdbd.source.errors import GymdbdError


def run(job: RebuildConfig, context: Context) -> RebuildResult:
    """Put the replica or the backup of `job` where the database of its pull was.

    The caller holds the lock of what is sent. The other machine is asked first, which takes a
    second, and what is sent is read as a whole before any of it leaves. Whenever the run ends, the
    place over there is as it was, or has the whole database; what was there has another name then.
    """
    return _Rebuild(job, context).run()


class _Rebuild:
    """One rebuild, and what it has found out."""

    def __init__(self, job: RebuildConfig, context: Context) -> None:
        self.job = job
        self.context = context
        self.timings = Timings()
        self.stamp = context.clock.now().astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.content: Content = content.choose(job, context)
        self.sent = 0

    def run(self) -> RebuildResult:
        """Ask, prove, send."""
        with self.timings.step("ask"), self._receiving() as (putting, _):
            there = self._ask(putting, self.content.size)
        with contextlib.ExitStack() as stack:
            with self.timings.step("verify"):
                proven = stack.enter_context(self.content.proven())
            if self.job.dry_run:
                return self._result(there, proven.size, proven.sha256, None)
            sha256, placed = self._put(proven)
            return self._result(there, proven.size, sha256, placed)

    def _ask(self, putting: Putting, size: int) -> There:
        owner = self.content.ownership
        return putting.ask(size, owner, replace=self.job.replace, stamp=self.stamp)

    def _put(self, proven: Proven) -> tuple[str, Placed]:
        """Send it, and let it have its name; return its SHA-256 and what was done."""
        size = proven.size
        with self._receiving() as (putting, connection), self.timings.step("send"):
            self._ask(putting, size)

            def progress(step: str, done: int) -> None:
                self.context.progress(step, done, size)

            sha256 = putting.put(proven.pieces(), size, progress)
            placed = putting.publish()
            self.sent = connection.bytes_sent
        pull, source = self.job.pull, str(self.content.shown)
        self.context.log.info(
            "database rebuilt", host=pull.host, path=pull.remote_database, source=source
        )
        return sha256, placed

    @contextlib.contextmanager
    def _receiving(self) -> Iterator[tuple[Putting, Connection]]:
        pull = self.job.pull
        try:
            with peer.receiving(pull, self.context) as line:
                yield line
        except (AuthenticationError, ChannelRefusedError) as error:
            raise error.but(hint=_how_to_log_in(pull, error)) from error
        except PlaceError as error:
            raise error.but(message=f"{pull.host}: {error.message}") from error

    def _result(self, there: There, size: int, sha256: str, placed: Placed | None) -> RebuildResult:
        asked = self.content
        return RebuildResult(
            host=self.job.pull.host,
            database=there.path,
            user=there.user,
            source=str(asked.shown),
            made_at=asked.made_at,
            size=size,
            sha256=sha256,
            tables=asked.tables,
            dry_run=self.job.dry_run,
            makes_folder=there.makes_folder,
            saved=placed.saved if placed else there.saves,
            aside=placed.aside if placed else there.aside,
            ownership=placed.ownership if placed else asked.ownership or None,
            remarks=[*(placed.remarks if placed else []), *self._overwritten()],
            next=[],
            bytes_sent=self.sent,
            duration_s=self.timings.total_s(),
            timings=self.timings.seconds,
        )

    def _overwritten(self) -> list[str]:
        """Return a remark if the next pull overwrites a replica that holds something else."""
        pull = self.job.pull
        if self.job.backup is None or pull.backup_before or not files.is_there(pull.replica):
            return []
        text = (
            f"the next pull overwrites {pull.replica} and keeps no copy (backup_before: false): "
            "copy it first, if it is newer than what was put there"
        )
        return [text]


def _how_to_log_in(job: PullConfig, error: GymdbdError) -> str:
    """Return what lets a rebuild in: the key of a pull may be let in for nothing else, or not yet.

    That key is not offered to ssh-copy-id if it is let in: it would get no shell.
    """
    copy = ["ssh-copy-id", "-i", "KEY.pub"]
    if isinstance(error, ChannelRefusedError):
        copy += ["-o", "PubkeyAuthentication=no"]
    if job.ssh.port:
        copy += ["-p", str(job.ssh.port)]
    copy.append(f"{job.ssh.user}@{job.host}" if job.ssh.user else job.host)
    return (
        "a rebuild needs a full login: name its key (--identity KEY) or its user (--user NAME). If "
        "there is only a password, make a key (ssh-keygen -t ed25519 -f KEY) and let it in: "
        f"{shlex.join(copy)}"
    )
