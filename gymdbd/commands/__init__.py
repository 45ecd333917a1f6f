"""The verbs of the command line, one module each, which is imported when its verb is typed.

A verb's module has the name of the verb. It has `add_arguments(parser)` and `run(arguments, output)
-> exit code`; its docstring is the help of the verb, and begins with the line in this table.
"""

from __future__ import annotations

import importlib
from typing import Any

# Every verb with its line in `gymdbd --help`, in the order of that page.
VERBS = {
    "init": "set this machine up: find the database, write a configuration, back it up",
    "run": "run the daemon: every job of the configuration on its schedule",
    "backup": "make a verified backup now",
    "pull": "pull a database over SSH, prove it equal, and swap it in",
    "emergency": "bring the other machine's database to safety now: three copies",
    "list": "list the backups of an archive, newest last",
    "verify": "read backups again and check that they are still good",
    "restore": "restore a backup, into the live database or another file",
    "undo": "take the last restore of a database back",
    "rebuild": "put the database on a new machine, where the dead one had it",
    "drill": "rehearse a restore of the newest backup, and time it",
    "accept": "accept a suspicious backup or replica, so that pruning resumes",
    "reject": "mark the content of a backup or replica as wrong",
    "keep": "pin a backup, so that it is never pruned",
    "unkeep": "remove the pin from a backup, so that it can be pruned again",
    "prune": "remove the backups that the retention rule does not retain",
    "diff": "show what changed between two backups, or since a backup",
    "rescue": "write rows of a backup to a file, to review and apply",
    "status": "report whether all is well, also as exit status",
    "runs": "show every run of the last months, and the reason of each gap",
    "growth": "show how the database or a table grew, and when it fell",
    "metrics": "print how all jobs are, as metrics for Prometheus",
    "report": "write a page for the browser: is all well, and what to do",
    "notify": "tell what is to be told now, or try the channels",
    "schedule": "print the next runs of every job, in local time",
    "check": "check the configuration and all it names; change nothing",
    "serve": "serve one database, read-only, over standard input and output",
    "authorize": "print the authorized_keys line for a key that can only pull",
    "completion": "print the Tab completion script for bash, zsh or fish",
    "demo": "try it on sample data: a backup while another process writes",
}


def load(verb: str) -> Any:
    """Import the module of a verb and return it."""
    return importlib.import_module(f"{__name__}.{verb}")
