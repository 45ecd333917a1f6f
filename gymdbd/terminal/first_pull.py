"""The first steps with a database of another machine: log in, find it, let a key in, pull it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from gymdbd import files, log
from gymdbd.config import template
from gymdbd.config.config import LogConfig
from gymdbd.config.kinds import PullConfig
from gymdbd.config.parts import SshConfig
from gymdbd.errors import UsageError
from gymdbd.jobs.pull.replica import Replica
from gymdbd.jobs.pull.result import PullResult
from gymdbd.remote import inquiry
from gymdbd.remote.errors import AuthenticationError
from gymdbd.runs.outcome import Outcome, failure
from gymdbd.terminal import asking, by_hand, first, first_key
from gymdbd.words import rows_in

if TYPE_CHECKING:
    import argparse

    from gymdbd.config.config import Config
    from gymdbd.remote.inquiry import Survey
    from gymdbd.terminal.first import Steps

_FOLDER = "~/gymdbd"


@dataclass(frozen=True)
class Place:
    """The other machine, as the command line names it."""

    host: str
    user: str | None
    port: int | None

    def job(self, remote_database: str, replica: Path, **ssh: Any) -> PullConfig:
        """Return a pull from there."""
        return PullConfig(
            name=f"pull-from-{self.name}",
            kind="pull",
            host=self.host,
            remote_database=remote_database,
            replica=replica,
            ssh=SshConfig(user=self.user, port=self.port, **ssh),
        )

    @property
    def name(self) -> str:
        """Return a name for what is of this host: of letters that the name of a job may have."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", self.host)
        return plain.strip(".-") or "host"


def run(arguments: argparse.Namespace, steps: Steps) -> int:
    """Do what is still to be done of them; return the exit code."""
    user, _, host = arguments.host.rpartition("@")
    there = Place(host, user or None, arguments.port)
    log.configure(LogConfig(), by_hand=True)
    at = first.place(arguments)
    settings = first.existing(at, arguments, steps)
    job = _job(settings, there, arguments)
    if job is not None:
        steps.tell("kept", f"{at}, which pulls {job.host}:{job.remote_database}")
    else:
        try:
            settings = _set_up(there, at, settings, arguments, steps)
        except AuthenticationError as error:
            if not steps.output.json:
                raise
            steps.finish(failure(error).problem())
            return error.exit_code
        job = _job(settings, there, arguments)
    if job is None or settings is None or arguments.dry_run:
        steps.finish()
        return 0
    return _begin(settings, job, steps)


def _job(settings: Config | None, there: Place, arguments: argparse.Namespace) -> PullConfig | None:
    """Return the job of the configuration that pulls this database, None if there is none."""
    pulls = (
        [job for job in settings.jobs.values() if isinstance(job, PullConfig)] if settings else []
    )
    wanted = arguments.remote_database
    return next(
        (job for job in pulls if job.host == there.host and wanted in (None, job.remote_database)),
        None,
    )


def _set_up(
    there: Place,
    at: Path,
    settings: Config | None,
    arguments: argparse.Namespace,
    steps: Steps,
) -> Config | None:
    """Find the database, let a key in that may read it, and write a configuration that pulls it."""
    found = _look_around(there, steps)
    database = _remote_database(found, arguments, steps)
    replica = _replica(there, database, arguments)
    job = there.job(database, replica, identity_file=first_key.PATH, identities_only=True)
    steps.facts |= {"host": there.host, "remote_database": database, "replica": str(replica)}
    steps.tell("database", f"{there.host}:{database}")
    steps.tell("replica", str(replica))
    first_key.let_in(job, found, arguments, steps)
    options = {"user": there.user, "port": there.port, "identity_file": first_key.PATH}
    entry: dict[str, Any] = {
        "kind": "pull",
        "every": "1h",
        "host": there.host,
        "remote_database": database,
        "replica": replica,
        "keep": {"count": 5},
        "ssh": {key: value for key, value in options.items() if value} | {"identities_only": True},
    }
    if settings is not None:
        raise first.refuse_to_change(settings, job.name, entry)
    text = template.pull(job.name, entry)
    return first.write(at, text, [replica.parent], arguments, steps)


def _look_around(there: Place, steps: Steps) -> Survey | None:
    """Log in with this user's own keys; return what is there, None if only a pull is allowed."""
    job = there.job("", Path())
    try:
        with first_key.connected(job) as connection:
            found = inquiry.survey(connection, job.ssh.python)
    except AuthenticationError:
        found = None
    how = "can log in" if found else "can be reached, and its key is known; no login as yet"
    steps.tell("host", f"{there.host}: {how}")
    return found


def _remote_database(found: Survey | None, arguments: argparse.Namespace, steps: Steps) -> str:
    """Return the path on the other machine that is named, or chosen among those found there."""
    hint = "name it: --remote-database /home/pi/gym-controller/instance/gym_system.db"
    if arguments.remote_database:
        path = str(arguments.remote_database)
        if path.startswith("~/") and found:
            path = found.home + path[1:]
        if not path.startswith("/"):
            raise UsageError(
                f"{path} is no path from / on, which the line for the key needs", hint=hint
            )
        return path
    databases = _databases(found)
    if asking.is_possible(steps.output) and databases:
        return databases[asking.choose("Which database?", databases)]
    if len(databases) == 1:
        return databases[0]
    if databases:
        raise UsageError(
            f"it is not certain which database of {arguments.host} is meant, of "
            f"{len(databases)}: {', '.join(databases)}",
            hint=hint,
        )
    why = "has no database that was found" if found else "does not let this user look around"
    raise UsageError(f"{arguments.host} {why}, so the path of the database is unknown", hint=hint)


def _databases(found: Survey | None) -> list[str]:
    """Return the paths that the other machine tells, without those that could steer a terminal."""
    told = [one.get("path") for one in found.databases] if found else []
    paths = [path for path in told if isinstance(path, str) and path.isprintable()]
    return [path for path in paths if path.startswith("/") and Path(path).name not in ("", "..")]


def _replica(there: Place, database: str, arguments: argparse.Namespace) -> Path:
    """Return the path of the copy, at which there must be nothing else."""
    if arguments.replica:
        replica = files.absolute(arguments.replica)
        first.require_place(replica.parent, given=arguments.replica.is_absolute())
    else:
        replica = Path(_FOLDER).expanduser() / there.name / PurePosixPath(database).name
    state = Replica(replica).state()
    if os.path.lexists(replica) and (
        state is None or (state.host, state.remote_database) != (there.host, database)
    ):
        raise UsageError(
            f"there is a {replica} already, which is no copy of that database",
            hint="name another place for the copy: --replica PATH",
        )
    return replica


def _begin(settings: Config, job: PullConfig, steps: Steps) -> int:
    """Check the configuration, and pull if there is no replica yet."""
    is_well = first.check(settings, steps)
    if Replica(job.replica).state() is not None and files.is_file(job.replica):
        steps.tell("pull", f"kept: {job.replica}")
        steps.facts["pull"] = {"replica": str(job.replica)}
        return first.finish(steps, Outcome(), is_well=is_well)
    outcome = by_hand.run_job(job, settings, steps.output).outcome
    made = outcome.result
    if isinstance(made, PullResult):
        steps.facts["pull"] = made.to_json()
        received = files.to_size(made.bytes_received)
        steps.tell(
            "pull",
            f"{made.replica}: {rows_in(made.tables)}, {received} received, proven equal in "
            f"{made.duration_s:.1f} s",
        )
    steps.next_steps = [
        *first.service(settings, job.replica, job.archive_folder),
        *first.notices(settings),
        f"Read the copy as you like, and pull by hand: gymdbd pull {job.name}",
    ]
    return first.finish(steps, outcome, is_well=is_well)
