"""`~/.ssh/config` for paramiko's parser, which knows less of it than OpenSSH: ssh_config(5).

It knows no Include, takes a criterion of Match that it does not know for met, wants criteria in
small letters, and goes through everything a second time, which OpenSSH does only if asked to. So
the files are read here, and what paramiko is given says the same in what it knows: each block has
one more criterion, an `exec` that tells us that the others are met. So it is known whether an
included file counts, and whether the block that it stands in goes on after it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.errors import SshConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_INCLUDES = 16
_LINE = re.compile(r"\s*([^\s=]+)(?:\s*=\s*|\s+)(.*)")
_ALONE = ("all", "canonical", "final")
_WITH_VALUE = ("host", "originalhost", "user", "localuser", "exec")
# Commands that nobody runs: what they ask is answered here.
_BEGIN, _ENTER, _WITHIN = "gymdbd: begin", "gymdbd: enter block ", "gymdbd: within block "
_UNKNOWN = "gymdbd: unknown criterion "
_EXEC_TIMEOUT_S = 30.0
# The block of what stands before any other.
_TOP = 0


class Config:
    """One file with those that it includes: `text` for paramiko, which asks `is_met` in turn.

    There is no text where there is no file. Raises SshConfigError for a file that cannot be read,
    or that includes itself.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self._blocks = _TOP
        self._entered: set[int] = set()
        self._passes = 0
        self._twice = False
        lines = [f"Match exec {shlex.quote(_BEGIN)}", _again(_TOP), *self._lines(path, _TOP, 0)]
        self.text = "".join(f"{line}\n" for line in lines)

    def _lines(self, path: Path, within: int, depth: int) -> Iterator[str]:
        """Yield the lines of a file that a block includes; those of its own count within it."""
        if depth > _MOST_INCLUDES:
            raise SshConfigError(f"{path} includes itself", hint="mend the Include lines in it")
        block = within
        for line in _read(path).splitlines():
            found = _LINE.fullmatch(line)
            keyword, rest = (found[1].lower(), found[2]) if found else ("", "")
            self._twice = self._twice or keyword == "canonicalizehostname"
            if keyword not in ("include", "host", "match"):
                yield line
                continue
            words = split(rest, str(path), comments=True)
            if keyword == "include":
                for file in _find_included(words, self._folder):
                    yield from self._lines(file, block, depth + 1)
                yield _again(block)
            else:
                is_host = keyword == "host"
                own = ["originalhost", ",".join(words)] if is_host else self._criteria(words)
                outer = ["exec", f"{_WITHIN}{within}"] if within != _TOP else []
                self._blocks = block = self._blocks + 1
                yield f"Match {shlex.join([*outer, *own, 'exec', f'{_ENTER}{block}'])}"

    def _criteria(self, words: list[str]) -> list[str]:
        """Write what follows `Match` in words that paramiko knows.

        Without an `all` that says nothing: it refuses that beside others, and one is added.
        """
        found: list[str] = []
        waiting = list(words)
        while waiting:
            name, equals, value = waiting.pop(0).partition("=")
            sign, name = "!" * name.startswith("!"), name.removeprefix("!").lower()
            if name in _ALONE:
                # Both are met in the second pass, but only `final` asks for one.
                self._twice = self._twice or name == "final"
                found.append(sign + name.replace("canonical", "final"))
                continue
            values = [value] if equals else waiting[:1]
            waiting = waiting if equals else waiting[1:]
            if name in _WITH_VALUE:
                found += [sign + name, *values]
            else:
                found += ["exec", _UNKNOWN + name.replace("%", "%%")]
        return [name for name in found if name != "all"] if set(found) <= set(_ALONE) else found

    def is_met(self, command: str) -> bool:
        """Say whether the command of a `Match exec` succeeds, run as OpenSSH does it.

        Raises SshConfigError for one that does not end, and for another criterion, which nobody
        here can judge.
        """
        if command == _BEGIN:
            self._entered.clear()
            self._passes += 1
            return False
        if self._passes % 2 == 0 and not self._twice:
            return False
        if command.startswith(_ENTER):
            self._entered.add(int(command.removeprefix(_ENTER)))
            return True
        if command.startswith(_WITHIN):
            return int(command.removeprefix(_WITHIN)) in self._entered
        if command.startswith(_UNKNOWN):
            name = command.removeprefix(_UNKNOWN)
            raise SshConfigError(
                f"~/.ssh/config has a line Match ... {name} ..., which gymdbd cannot judge",
                hint="where it is meant for other hosts, let it name them first, as in "
                f"Match originalhost laptop {name} ...",
            )
        return _succeeds(command)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise SshConfigError(
            f"{path} cannot be read ({error.strerror})", hint="let this user read it"
        ) from error


def _again(block: int) -> str:
    """Return the line after which a block goes on, or begins for what stands before any other."""
    return "Host *" if block == _TOP else f"Match exec {shlex.quote(f'{_WITHIN}{block}')}"


def _succeeds(command: str) -> bool:
    """Run a command in the user's shell, unheard."""
    try:
        done = subprocess.run(
            [os.environ.get("SHELL") or "/bin/sh", "-c", command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_EXEC_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise SshConfigError(
            f"~/.ssh/config asks a command that does not end: Match exec {command!r}",
            hint=f"it has {_EXEC_TIMEOUT_S:g} s; run it by hand to see what it waits for",
        ) from error
    except OSError as error:
        raise SshConfigError(
            f"~/.ssh/config asks a command that cannot be run: Match exec {command!r} "
            f"({error.strerror})",
            hint="check $SHELL",
        ) from error
    return done.returncode == 0


def split(text: str, where: str, *, comments: bool = False) -> list[str]:
    """Split a line into words as a shell would; there is no shell, so no pipes or redirections."""
    try:
        return shlex.split(text, comments=comments)
    except ValueError as error:
        raise SshConfigError(
            f"a setting of {where} cannot be split into words: {text!r} ({error})",
            hint="balance its quotes in ~/.ssh/config",
        ) from error


def _find_included(patterns: list[str], folder: Path) -> list[Path]:
    """List the files that one Include line names."""
    places = [folder / to_path(pattern) for pattern in patterns]
    return [file for place in places for file in sorted(place.parent.glob(place.name))]


def to_path(name: str) -> Path:
    """Return the path that a setting names, with the home folder for `~` and `%d`."""
    return Path(name.replace("%d", str(Path.home()))).expanduser()
