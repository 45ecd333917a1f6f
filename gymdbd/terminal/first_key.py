"""The key for the first pull: made here, let in by a line on the other machine, waited for."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import log
from gymdbd.jobs import peer
from gymdbd.jobs.context import Context
from gymdbd.remote.errors import AuthenticationError
from gymdbd.remote.ssh import authorized, keys, target
from gymdbd.remote.ssh.target import HostSettings
from gymdbd.source.errors import UnreachableError
from gymdbd.terminal import asking, by_hand
from gymdbd.words import limit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from gymdbd.config.kinds import PullConfig
    from gymdbd.remote.inquiry import Survey
    from gymdbd.remote.ssh.authorized import PublicKey
    from gymdbd.remote.ssh.ssh import Connection
    from gymdbd.source.errors import GymdbdError
    from gymdbd.terminal.first import Steps

PATH = "~/.ssh/gymdbd"
# Where the installer puts it.
_PROGRAM = Path("/opt/gymdbd/bin/gymdbd")
# A server that counts refused logins (PerSourcePenalties of OpenSSH) forgets one in five seconds.
_PAUSE_S = 10.0


@contextlib.contextmanager
def connected(job: PullConfig) -> Iterator[Connection]:
    """Connect to the host of a job; SIGINT ends it."""
    with (
        by_hand.stoppable() as check,
        peer.connect(job, Context(log=log.logger(), check=check)) as connection,
    ):
        yield connection


def let_in(
    job: PullConfig, found: Survey | None, arguments: argparse.Namespace, steps: Steps
) -> None:
    """Make the key of a job, print the line that lets it in, and wait until it is let in.

    `found` is what the other machine tells, None if it lets nobody look around. Raises what refuses
    the key if it takes too long.
    """
    path = Path(PATH).expanduser()
    if arguments.dry_run and not os.path.lexists(path):
        steps.tell("would", f"make the key {path}, print the line that lets it in, and wait for it")
        return
    key, made = keys.ensure(path, f"gymdbd@{os.uname().nodename}")
    steps.tell("key", f"{path}, {'made now' if made else 'kept'}: {key.fingerprint}")
    refused = _refusal(job)
    if refused is None:
        return
    line = _line(key, job.remote_database, found)
    steps.facts["line"] = line
    _explain(job, key, line, found, steps)
    if not arguments.dry_run:
        _wait(job, refused, arguments.wait.total_seconds(), steps)
        del steps.facts["line"]


def _refusal(job: PullConfig) -> GymdbdError | None:
    """Return why the key is not let in, None if it is."""
    try:
        with connected(job):
            return None
    except (AuthenticationError, UnreachableError) as error:
        return error


def _line(key: PublicKey, database: str, found: Survey | None) -> str:
    """Return the line as `gymdbd authorize` over there prints it."""
    program, python = _PROGRAM, _PROGRAM.with_name("python")
    if found is not None:
        program, python = Path(found.program), Path(found.python)
    if found is not None and not found.program:
        # Without gymdbd over there, a pull brings along what it runs.
        return f"restrict {_public(key)}"
    known = python if found is None or found.python else None
    return authorized.line_for(authorized.command_for(program, Path(database), known), key)


def _public(key: PublicKey) -> str:
    return f"{key.kind} {key.blob} {key.comment}".rstrip()


def _explain(
    job: PullConfig, key: PublicKey, line: str, found: Survey | None, steps: Steps
) -> None:
    """Print the line, and how to put it there."""
    settings = HostSettings(host=job.host, user=job.ssh.user, port=job.ssh.port)
    who = f"{target.resolve(settings).user} on {job.host}"
    steps.show(f"\nThis line lets the key in, in ~/.ssh/authorized_keys of {who}:\n")
    if not steps.output.json:
        steps.output.verbatim(line)
    if found is None:
        authorize = ["gymdbd", "authorize", "--database", job.remote_database]
        steps.show(
            "\nType this there, as the owner of the database; it prints the same line, with the "
            "place where gymdbd is there:\n\n"
            f"echo {shlex.quote(_public(key))} | {shlex.join(authorize)} >> "
            "~/.ssh/authorized_keys\n",
        )
        return
    user = f"{job.ssh.user}@" if job.ssh.user else ""
    port = ["-p", str(job.ssh.port)] if job.ssh.port else []
    there = "umask 077; mkdir -p ~/.ssh; cat >> ~/.ssh/authorized_keys"
    append = shlex.join(["ssh", *port, f"{user}{job.host}", there])
    steps.show(f"\nThis puts it there:\n\nprintf '%s\\n' {shlex.quote(line)} | \\\n    {append}\n")
    if not found.program:
        steps.tell(
            "remark",
            f"no gymdbd was found on {job.host}, on the PATH of a login or in /opt/gymdbd, so that "
            "the key may run any command there; if it is installed there, its own gymdbd authorize "
            "prints a line for this database alone",
        )


def _wait(job: PullConfig, refused: GymdbdError, patience_s: float, steps: Steps) -> None:
    """Wait until the key is let in; raise what refuses it if it takes too long."""
    deadline = time.monotonic() + patience_s
    ask = asking.is_possible(steps.output)
    if patience_s:
        how = "press Enter when the line is there, " if ask else ""
        most = limit(timedelta(seconds=patience_s))
        steps.output.remark(
            f"waiting until {job.host} lets the key in, for {most} at most: {how}Ctrl-C stops, and "
            "the same command goes on later"
        )
    while (left := deadline - time.monotonic()) > 0:
        if ask:
            asking.waited(min(left, _PAUSE_S))
        else:
            time.sleep(min(left, _PAUSE_S))
        again = _refusal(job)
        if again is None:
            return
        refused = again
    hint = f"put the line into ~/.ssh/authorized_keys on {job.host}, and type the same again"
    raise refused.but(hint=hint if isinstance(refused, AuthenticationError) else refused.hint)
