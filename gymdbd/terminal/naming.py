"""The backup that a command line names, by a word or with --at by a time: alike in every verb."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gymdbd import when
from gymdbd.archive import beginning
from gymdbd.clock import Clock
from gymdbd.errors import BackupMissingError, MomentError, UsageError
from gymdbd.terminal import databases
from gymdbd.words import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gymdbd.archive.backup import Backup
    from gymdbd.terminal.databases import Database
    from gymdbd.terminal.distance import Distance
    from gymdbd.terminal.output import Output

HELP = "a backup's name or path, a beginning of its time (20261128), or latest"
_HINT = (
    "`latest` is the newest good backup, and --at yesterday the newest good one of that time; "
    "gymdbd list prints all"
)


@dataclass(frozen=True)
class Name:
    """A word that names a backup, or a time whose newest good backup is meant."""

    text: str
    is_time: bool = False

    def __str__(self) -> str:
        """Return it as it was typed."""
        return f"--at {self.text}" if self.is_time else self.text


class _Add(argparse.Action):
    """Appends to `names`, so that words and times keep the order in which they were typed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - as argparse calls it
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add what was typed for one argument; nothing if it was left out."""
        words = [values] if isinstance(values, str) else values or []
        added = [Name(word, is_time=option_string is not None) for word in words]
        namespace.names = [*getattr(namespace, "names", []), *added]


def add_words(
    parser: argparse.ArgumentParser, metavar: str = "BACKUP", text: str = HELP, nargs: str = "?"
) -> None:
    """Add an argument that names a backup by a word."""
    parser.add_argument(
        metavar.lower(),
        action=_Add,
        nargs=nargs,
        metavar=metavar,
        default=argparse.SUPPRESS,
        help=text,
    )


def add_at(
    parser: argparse.ArgumentParser, text: str = "the newest good backup made at or before TIME"
) -> None:
    """Add --at, which names a backup by a time."""
    parser.add_argument(
        "--at",
        action=_Add,
        metavar="TIME",
        default=argparse.SUPPRESS,
        help=f'{text}, such as 14:00, yesterday, "Tue 14:00", 3d or "2026-11-20 14:00"',
    )


def named(arguments: argparse.Namespace) -> list[Name]:
    """Return all names that the command line has; UsageError if quotes are missing."""
    names: list[Name] = getattr(arguments, "names", [])
    for name, following in itertools.pairwise(names):
        if following.is_time or beginning.is_one(following.text):
            continue
        whole = Name(f"{name.text} {following.text}", is_time=name.is_time)
        if _is_moment(whole.text) if whole.is_time else beginning.is_one(whole.text):
            quoted = Name(shlex.quote(whole.text), is_time=whole.is_time)
            raise UsageError(
                f"{name} and {following} are two names",
                hint=f"a time of several words goes in quotes: {quoted}",
            )
    return names


def _is_moment(text: str) -> bool:
    """Return whether `when.parse` takes it for the name of a time."""
    now = Clock()
    try:
        when.parse(text, now.now(), now.zone)
    except MomentError:
        return False
    return True


def only(names: list[Name]) -> Name:
    """Return the only one of these names; UsageError if there is none, or another one."""
    if len(names) != 1:
        told = f"it has {' and '.join(map(str, names))}" if names else "it has neither"
        raise UsageError(f"name one BACKUP, or a time with --at: {told}", hint=_HINT)
    return names[0]


def find(name: Name, arguments: argparse.Namespace) -> Database:
    """Find what a name means: a backup, or by its path a database."""
    if not name.text.strip():
        raise UsageError("the name of a backup, or its time, is empty", hint=_HINT)
    if name.is_time:
        now = Clock()
        return databases.find_at(when.parse(name.text, now.now(), now.zone), arguments)
    try:
        return databases.find(name.text, arguments)
    except BackupMissingError as error:
        if not _is_moment(name.text):
            raise
        hint = f"a time goes with --at, as in --at {shlex.quote(name.text)}; {error.hint}"
        raise error.but(hint=hint) from error


def no_job(error: BackupMissingError, name: Name, jobs: Iterable[str]) -> BackupMissingError:
    """Return the error of a verb that takes jobs as well: `name` is neither."""
    if name.is_time or os.sep in name.text:
        return error
    near = did_you_mean(name.text, jobs)
    return error.but(message=f"no job is called {name}{near}, and {error.message}")


def find_only(arguments: argparse.Namespace, output: Output) -> Database:
    """Find what the only name of the command line means; let the answer say how far off it is."""
    found = find(only(named(arguments)), arguments)
    answer(found.distance, output)
    return found


def find_backup(arguments: argparse.Namespace, output: Output) -> Backup:
    """Find the only backup that the command line names; BackupMissingError if it is none."""
    return databases.require_backup(find_only(arguments, output))


def answer(distance: Distance | None, output: Output) -> None:
    """Let the answer of the verb say how far a backup is from the time that was asked for."""
    zone = Clock().zone
    if distance is not None:
        output.also(distance.describe(zone), distance.line(zone))
