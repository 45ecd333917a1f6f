"""The configuration that `gymdbd init` writes: one job, each key with its comment, and examples."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD = """\
# The configuration of gymdbd on this machine. `gymdbd init` wrote it and never changes it: edit it
# as you like, and try it with `gymdbd check`. config.example.yaml documents every key.

jobs:
"""

_BACKUP = """\
  {name}:
    kind: backup

    # When, in local time, as in a crontab: minute, hour, day, month, weekday. A run that is missed
    # because the machine was off is made up. Instead: `every: 1h`.
    schedule: {schedule}

    # The live database. The application goes on writing while it is backed up.
    database: {database}

    # The folder of its backups.
    archive: {archive}

    # A backup stays if it is younger than `days` or among the newest `count`; the newest verified
    # one always stays. Without `keep` nothing is ever removed.
    keep:
      days: {keep[days]}
      count: {keep[count]}

  # Read every backup again on Sundays, and rehearse a restore. To use an example, remove the "# "
  # in front of its lines.
  #
  # weekly-proof:
  #   kind: verify
  #   schedule: "0 4 * * 0"
  #   archive: {archive}
  #
  # weekly-drill:
  #   kind: drill
  #   schedule: "0 5 * * 0"
  #   archive: {archive}
"""

_PULL = """\
  {name}:
    kind: pull

    # How often. A pull of a database that has not changed costs a few kilobytes. Instead of an
    # interval, a time as in a crontab: `schedule: "0 9 * * *"`.
    every: {every}

    # The other machine, as in `ssh HOST`, and the path of the database there.
    host: {host}
    remote_database: {remote_database}

    # The copy on this machine: every pull replaces it by a newer one. The one before goes to the
    # folder `backups` beside it, where the newest `count` stay.
    replica: {replica}
    keep:
      count: {keep[count]}

    # How to log in there: with a key of its own, which may only read this database.
    ssh:
{ssh}
"""

_TAIL = """
# Who is told when a job fails or is late, and when all is well again. Try it with
# `gymdbd notify --test`.
#
# notify:
#   to:
#     owner:
#       url: {file: ntfy-url}    # a file beside this one, mode 0600, with https://ntfy.sh/TOPIC
"""


def backup(name: str, job: Mapping[str, Any]) -> str:
    """Return a configuration with this backup job."""
    return _filled(_BACKUP, name, job)


def pull(name: str, job: Mapping[str, Any]) -> str:
    """Return a configuration with this pull job."""
    ssh = "\n".join(f"      {key}: {_scalar(value)}" for key, value in job["ssh"].items())
    return _filled(_PULL, name, {**job, "ssh": ssh})


def line(name: str, job: Mapping[str, Any]) -> str:
    """Return the job as one line, to be added to the `jobs:` of a configuration."""
    return json.dumps({name: job}, ensure_ascii=False, default=str)[1:-1]


def _filled(form: str, name: str, job: Mapping[str, Any]) -> str:
    words = {key: _scalar(value) for key, value in job.items() if key not in ("keep", "ssh")}
    text = form.format(name=name, **words, keep=job["keep"], ssh=job.get("ssh"))
    return _HEAD + text + _TAIL


def _scalar(value: Any) -> str:
    """Write a value for YAML; a text in quotes, in which a path has no character to escape."""
    if isinstance(value, (bool, int)):
        return json.dumps(value)
    text = str(value)
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    # JSON writes a letter above U+FFFF as two, and YAML reads these as two.
    return '"' + "".join(x if x > "\uffff" else json.dumps(x)[1:-1] for x in text) + '"'
