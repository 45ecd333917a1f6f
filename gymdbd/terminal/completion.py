"""What Tab offers: argcomplete asks the parser itself, so that no flag is listed a second time.

The shell runs the command line anew at each Tab, with `_ARGCOMPLETE` in its environment; without
that nothing of this is loaded.
"""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

import argcomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter
from argcomplete.shell_integration import shellcode

from gymdbd.errors import GymdbdError
from gymdbd.terminal import options

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# A verb that takes jobs of another kind than its name.
_KIND_OF_VERB = {"prune": "backup", "emergency": "pull"}


def script(shell: str) -> str:
    """Return what makes `shell` ask gymdbd at each Tab."""
    return str(shellcode(["gymdbd"], shell=shell))


def offer(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks what may come next, and end the process; else return at once."""
    argcomplete.autocomplete(parser, always_complete_options=False, default_completer=_Values())


class _Values(BaseCompleter):
    """The values of an argument, by the word that the help has for it (its metavar)."""

    def __call__(
        self,
        *,
        prefix: str,
        action: argparse.Action,
        parser: argparse.ArgumentParser,
        parsed_args: argparse.Namespace,
    ) -> Iterable[str]:
        """Return what the argument may be; nothing where that is not known."""
        metavar = action.metavar
        if metavar == "JOB":
            return _jobs(parsed_args, parser.prog.rpartition(" ")[2])
        if metavar == "BACKUP":
            return _backups(parsed_args)
        if metavar == "BACKUP|JOB":
            names = [*_jobs(parsed_args, "backup"), *_jobs(parsed_args, "pull")]
            return [*names, *_backups(parsed_args)[1:]]
        if metavar == "DIR":
            return _strings(DirectoriesCompleter()(prefix))
        return _strings(FilesCompleter()(prefix)) if metavar in ("PATH", "FILE") else ()


def _strings(found: Iterable[Any]) -> list[str]:
    return [str(one) for one in found]


def _jobs(arguments: argparse.Namespace, verb: str) -> list[str]:
    kind = _KIND_OF_VERB.get(verb, verb)
    # A configuration with a fault is for the verb itself to tell about.
    with contextlib.suppress(GymdbdError):
        jobs = options.load_config(arguments).jobs
        return [name for name, job in jobs.items() if job.kind == kind]
    return []


def _backups(arguments: argparse.Namespace) -> list[str]:
    from gymdbd.archive.catalog import LATEST, Catalog  # noqa: PLC0415 - few need it
    from gymdbd.clock import Clock  # noqa: PLC0415

    names = [LATEST]
    given = argparse.Namespace(**{"archive": None, **vars(arguments)})
    archives: list[Path] = []
    with contextlib.suppress(GymdbdError):
        archives = options.archives(given)
    for archive in archives:
        with contextlib.suppress(GymdbdError):
            names += [one.path.name for one in Catalog(archive, Clock().zone).backups()]
    return names
