"""The other machine of a job: connecting to it, and starting the serving side over there."""

from __future__ import annotations

import contextlib
import functools
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import bounded
from gymdbd.config.kinds import PullConfig
from gymdbd.remote import bootstrap, delta
from gymdbd.remote.client import Session
from gymdbd.remote.errors import LibraryMissingError
from gymdbd.remote.pace import Pace
from gymdbd.remote.ssh.target import HostSettings
from gymdbd.source.errors import ConnectionLostError, GymdbdError, ProtocolError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from gymdbd.config.parts import RepairConfig
    from gymdbd.jobs.context import Context
    from gymdbd.remote.putting import Putting
    from gymdbd.remote.ssh.ssh import Connection
    from gymdbd.remote.ssh.stream import Command
    from gymdbd.source.fingerprint import Fingerprint


# Seconds since 1970 that are a time in every zone.
_MOST_SECONDS = 250_000_000_000


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the other side may tell of its database and machine; None if it does not."""

    host: str | None = None
    database: str | None = None
    size_bytes: int | None = None
    wal_size_bytes: int | None = None
    wal_frames: int | None = None
    wal_frames_backfilled: int | None = None
    journal_mode: str | None = None
    page_size: int | None = None
    page_count: int | None = None
    encoding: str | None = None
    user_version: int | None = None
    newest_change: float | None = None
    method: str | None = None
    reason: str | None = None
    gymdbd: str | None = None
    python: str | None = None
    sqlite: str | None = None
    wal_reset_bug: bool | None = None
    unknown: str | None = None
    disk_free_bytes: int | None = None
    held_by: list[str] | None = None
    restricted: bool | None = None


def inspect(job: PullConfig, context: Context) -> dict[str, Any]:
    """Return a description of the remote database and its machine, without transferring it.

    Facts that the other side does not tell are left out; ProtocolError if one is of a wrong type.
    """
    with serving(job, context, context.progress) as (session, _):
        try:
            told = vars(bounded.typed(_Facts, session.info()))
        except TypeError as error:
            raise ProtocolError(f"the other side's description is invalid: {error}") from error
        if not 0 <= (told["newest_change"] or 0) <= _MOST_SECONDS:
            raise ProtocolError("the other side's newest change is outside the calendar")
        facts = {name: value for name, value in told.items() if value is not None}
        if facts.get("restricted"):
            # What a restricted key is not told is known here.
            facts |= {"host": job.host, "database": job.remote_database}
        return {**facts, "tables": session.count_rows(), "uncounted": session.uncounted}


def unknown(facts: dict[str, Any]) -> str:
    """Return what the SQLite over there does not understand of the database; "" if nothing.

    Nothing is assumed unknown if an older release over there does not report it.
    """
    tables = [f"table {name}" for name in facts["uncounted"]]
    definition = facts.get("unknown")
    return ", ".join(
        [definition, *tables] if isinstance(definition, str) and definition else tables
    )


@contextlib.contextmanager
def connect(job: PullConfig | RepairConfig, context: Context) -> Iterator[Connection]:
    """Connect to the host of a job; leaving the block ends the connection."""
    try:
        # It brings paramiko, 31 MiB that nothing else needs.
        from gymdbd.remote.ssh import ssh  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _no_library(error) from error
    options = job.ssh
    settings = HostSettings(
        host=job.host,
        user=options.user,
        port=options.port,
        identity_file=options.identity_file,
        identities_only=options.identities_only,
        known_hosts=options.known_hosts,
        host_key_alias=options.host_key_alias,
        proxy_jump=options.proxy_jump,
        proxy_command=options.proxy_command,
        ciphers=options.ciphers,
        connect_timeout_s=_seconds(options.connect_timeout),
        auth_timeout_s=options.auth_timeout.total_seconds(),
        stall_timeout_s=options.stall_timeout.total_seconds(),
        keepalive_s=_seconds(options.keepalive),
    )
    try:
        target, pace = ssh.resolve(settings), _pace(job, context)
        with ssh.connect(target, check=context.check, pace=pace) as connection:
            yield connection
    except (SourceError, ProtocolError) as error:
        raise _naming(job.host, error) from error.__cause__


def _pace(job: PullConfig | RepairConfig, context: Context) -> Pace:
    """Return what holds a connection to the limit of its job, by the local time of each moment."""
    limit, clock = job.limit if isinstance(job, PullConfig) else None, context.clock
    return Pace(lambda: limit.at(clock.now(), clock.zone)) if limit else Pace()


def _naming(host: str, error: GymdbdError) -> GymdbdError:
    """Return an error about the other machine's database, or what it sent, that names the host."""
    if error.message.startswith(f"{host}: ") or f" on {host}" in error.message:
        return error
    return error.but(message=f"{host}: {error.message}")


def _no_library(error: ModuleNotFoundError) -> LibraryMissingError:
    program = shlex.quote(sys.executable)
    return LibraryMissingError(
        f"this machine cannot connect to others: {error.name}, a part of what speaks SSH for "
        "gymdbd, is not installed",
        hint=f"{program} -m pip install '.[ssh]' in the folder of the repository installs it; "
        "32-bit ARM has it from piwheels.org only, so perhaps let a 64-bit machine pull",
    )


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else duration.total_seconds()


@contextlib.contextmanager
def serving(
    job: PullConfig,
    context: Context,
    progress: Callable[[str, int, int], None],
    known: tuple[Fingerprint | None, int | None] = (None, None),
    *,
    wholly: bool = False,
) -> Iterator[tuple[Session, Connection]]:
    """Start the serving side over there and greet it, unless it has nothing beyond `known`.

    If it is to be there `wholly`, it is greeted in any case.
    """
    fingerprint, size = known
    probe = None
    if fingerprint is not None and not wholly and delta.may_be_unchanged(fingerprint, size):
        probe = bootstrap.probe(job.remote_database, fingerprint), fingerprint
    with connect(job, context) as connection:
        channel = connection.run(bootstrap.arguments(job.ssh.python))
        try:
            session = Session(
                channel.reader,
                channel.writer,
                progress=progress,
                check=context.check,
                prelude=functools.partial(bootstrap.bundle, job.remote_database),
                probe=probe,
                database=job.remote_database,
            )
            session.hurry = channel.end_within
            yield session, connection
        except ConnectionLostError as error:
            raise _why(connection, channel, error) from error


@contextlib.contextmanager
def receiving(job: PullConfig, context: Context) -> Iterator[tuple[Putting, Connection]]:
    """Start the receiving side over there, which can put a database in the place of the job's."""
    from gymdbd.remote.putting import Putting  # noqa: PLC0415 - no pull needs it

    with connect(job, context) as connection:
        channel = connection.run(bootstrap.arguments(job.ssh.python))
        try:
            putting = Putting(
                channel.reader,
                channel.writer,
                functools.partial(bootstrap.receiver, job.remote_database),
                check=context.check,
                confirm=connection.confirm,
            )
            yield putting, connection
        except ConnectionLostError as error:
            raise _why(connection, channel, error) from error


def _why(connection: Connection, channel: Command, error: GymdbdError) -> GymdbdError:
    """Return why the other side has ended: if the connection stands, its command may have said."""
    return channel.explain_end() if connection.lost() is None else error
