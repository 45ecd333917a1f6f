"""Tab completion: argcomplete reads the flags from the parser, so they are not listed twice.

At each Tab, the shell runs gymdbd with `_ARGCOMPLETE` in its environment; otherwise this module is
not imported.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import TYPE_CHECKING, Any

import argcomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from gymdbd.archive.catalog import LATEST, Catalog
from gymdbd.clock import Clock
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Verbs whose jobs are of another kind than their name.
_KIND_OF_VERB = {"prune": "backup", "emergency": "pull", "rebuild": "pull"}

# What comes to mind first after --at; every other form is in the help.
_TIMES = ("yesterday", "1h", "1d", "1w")


def script(shell: str) -> str:
    """Return the script that makes `shell` ask gymdbd at each Tab."""
    return str(shellcode(["gymdbd"], shell=shell))


def typed() -> list[str]:
    """Return the words after `gymdbd` on the line that is being typed."""
    return os.environ.get("COMP_LINE", "").split()[1:]


def offer(parser: argparse.ArgumentParser) -> None:
    """If a shell asks for completions, print them and exit; otherwise return."""
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=_Values())


class _Values(BaseCompleter):
    """Completes the values of an argument according to its metavar."""

    def __call__(
        self,
        *,
        prefix: str,
        action: argparse.Action,
        parser: argparse.ArgumentParser,
        parsed_args: argparse.Namespace,
    ) -> Iterable[str]:
        """Return the possible values of the argument, if they are known."""
        metavar = action.metavar
        if metavar == "JOB" and parser.prog.endswith(" undo"):
            return [*_jobs(parsed_args, "backup"), *_jobs(parsed_args, "pull")]
        if metavar == "JOB":
            return _jobs(parsed_args, parser.prog.rpartition(" ")[2])
        if metavar in ("BACKUP", "A", "B"):
            return _backups(parsed_args, prefix)
        if metavar == "JOB|BACKUP":
            return [*_jobs(parsed_args, "drill"), *_backups(parsed_args, prefix)]
        if metavar == "BACKUP|JOB":
            names = [*_jobs(parsed_args, "backup"), *_jobs(parsed_args, "pull")]
            return [*names, *_backups(parsed_args, prefix)[1:]]
        return _of_anyone(str(metavar), prefix)


def _of_anyone(metavar: str, prefix: str) -> Iterable[str]:
    """Return the possible values that depend on no archive and no configuration."""
    if metavar == "TIME":
        return _TIMES
    if metavar == "DIR":
        return _strings(DirectoriesCompleter()(prefix))
    return _strings(FilesCompleter()(prefix)) if metavar in ("PATH", "FILE") else ()


def _strings(found: Iterable[Any]) -> list[str]:
    return [str(value) for value in found]


def _jobs(arguments: argparse.Namespace, verb: str) -> list[str]:
    kind = _KIND_OF_VERB.get(verb, verb)
    from gymdbd.terminal import configuration  # noqa: PLC0415 - YAML, for the names of jobs only

    # The verb itself reports an invalid configuration.
    with contextlib.suppress(GymdbdError):
        jobs = configuration.load(arguments).jobs
        return [name for name, job in jobs.items() if job.kind == kind]
    return []


def _backups(arguments: argparse.Namespace, prefix: str) -> list[str]:
    """Return the names of the backups; their times, if a time has been begun."""
    from gymdbd.terminal import configuration  # noqa: PLC0415 - YAML, for a folder only

    names = [LATEST]
    given = argparse.Namespace(**{"archive": None, **vars(arguments)})
    archives: list[Path] = []
    with contextlib.suppress(GymdbdError):
        archives = configuration.archives(given)
    for archive in archives:
        with contextlib.suppress(GymdbdError):
            names += [backup.path.name for backup in Catalog(archive, Clock().zone).backups()]
    if prefix[:1].isdigit():
        names += [name.rpartition("_backup_")[2].removesuffix(".db") for name in names[1:]]
    # A shell would put a line break or an escape sequence into the line that is being typed.
    return [name for name in names if name.isprintable()]
