"""Which lines of `~/.ssh/config` count for a host: ssh_config(5).

paramiko, which is then given those lines alone, has a parser of its own, but that knows no Include,
takes a criterion of Match that it does not know for met, and goes through everything a second time,
which OpenSSH does only if asked to.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from gymdbd.errors import SshConfigError
from gymdbd.remote import account

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Parse = Callable[[str, str], Mapping[str, Any]]

_MOST_INCLUDES = 16
_LINE = re.compile(r"\s*([^\s=]+)(?:\s*=\s*|\s+)(.*)")
# Of these all that follows is a command, and what looks like a comment is one of the shell's.
_WHOLE_LINES = ("proxycommand", "localcommand", "remotecommand", "knownhostscommand")
_TOKEN = re.compile("%(.)")
_EXEC_TIMEOUT_S = 30.0


def lookup(path: Path, host: str, parse: Parse) -> Mapping[str, Any]:
    """Return what the file says of a host; nothing where there is no file.

    `parse(lines, host)` gives the settings, the first of each counts, that stand in lines for this
    host. Raises SshConfigError for a file that cannot be read, or that includes itself, for a
    criterion that decides something and that nobody here can judge, and for a command that does
    not end.
    """
    first = _Pass(path, host, host)
    said = parse(first.text, host)
    if not first.asks_again:
        return said
    # Now the name is known, whatever is said of it from here on.
    name = str(said.get("hostname", host))
    second = _Pass(path, host, name, before=first)
    return parse(f"{first.text}HostName {name}\n{second.text}", host)


class _Pass:
    """One reading of the files.

    `original` is the name that was asked for, `name` the one that is known when it begins; the
    second one goes on from what the one `before` has found. `text` are the lines that count,
    `found` what a later Match may ask for.
    """

    def __init__(
        self, path: Path, original: str, name: str, *, before: _Pass | None = None
    ) -> None:
        self._folder = path.parent
        self._original = original
        self._name = name
        self._final = before is not None
        self.found: dict[str, str] = {**before.found, "hostname": name} if before else {}
        self.asks_again = False
        self.text = ""
        self._read(path, active=True, depth=0)

    def _read(self, path: Path, *, active: bool, depth: int) -> None:
        """Read a file; where the block that includes it is not `active`, no line of it counts."""
        if depth > _MOST_INCLUDES:
            raise SshConfigError(f"{path} includes itself", hint="mend the Include lines in it")
        outer = active
        for line in _text(path).splitlines():
            found = _LINE.fullmatch(line)
            if found is None:
                # An empty line or a comment, or one that the parser refuses.
                self.text += f"{line}\n" * active
                continue
            keyword = found[1].lower()
            value = found[2] if keyword in _WHOLE_LINES else _without_comment(found[2])
            if keyword == "include":
                for file in _find_included(split(value, str(path)), self._folder):
                    self._read(file, active=active, depth=depth + 1)
            elif keyword == "host":
                active = outer and _is_among(self._name, split(value, str(path)))
            elif keyword == "match":
                active = self._is_met(split(value, str(path)), outer=outer)
            elif active and not keyword.startswith("#"):
                self._take(keyword, value)
                self.text += f"{keyword} {value}\n"

    def _take(self, keyword: str, value: str) -> None:
        """Remember what a later Match may ask for."""
        if keyword in ("hostname", "user", "port"):
            self.found.setdefault(keyword, value.strip().strip('"'))
        self.asks_again = self.asks_again or (
            keyword == "canonicalizehostname" and value.lower() in ("yes", "always")
        )

    def _is_met(self, words: list[str], *, outer: bool) -> bool:
        """Say whether all criteria of a Match are met; one that is not spares the others."""
        met = outer
        waiting = list(words)
        while waiting:
            name, equals, value = waiting.pop(0).partition("=")
            negated, name = name.startswith("!"), name.removeprefix("!").lower()
            # `canonical` is met likewise, but does not ask for a second pass.
            self.asks_again = self.asks_again or (name == "final" and not self._final)
            if name not in ("all", "canonical", "final") and not equals:
                if not waiting:
                    raise SshConfigError(
                        f"~/.ssh/config has a line Match ... {name} without a value",
                        hint="ssh -G HOST shows how OpenSSH reads it",
                    )
                value = waiting.pop(0)
            met = met and self._holds(name, value) != negated
        return met

    def _holds(self, name: str, value: str) -> bool:
        hostname = self.found.get("hostname", self._name).replace("%h", self._name)
        subjects = {
            "host": hostname,
            "originalhost": self._original,
            "user": self.found.get("user") or account.user(),
            "localuser": account.user(),
        }
        if name in ("all", "canonical", "final"):
            return name == "all" or self._final
        if name in ("host", "originalhost"):
            # Unlike after Host, and unlike names of users, large letters are small ones.
            return _is_among(subjects[name].lower(), value.lower().split(","))
        if name in subjects:
            return _is_among(subjects[name], value.split(","))
        if name == "exec":
            return _succeeds(_TOKEN.sub(lambda token: self._expand(token[1], hostname), value))
        raise SshConfigError(
            f"~/.ssh/config has a line Match ... {name} ..., which gymdbd cannot judge",
            hint="let it name the hosts that it is for first, as in Match originalhost laptop "
            f"{name} ...; if {self._original} is one, let gymdbd use another alias for it, with a "
            "Host block of its own",
        )

    def _expand(self, letter: str, hostname: str) -> str:
        """Return what a token of a command stands for; only who asks pays for the full name."""
        tokens: dict[str, Callable[[], str]] = {
            "%": lambda: "%",
            "h": lambda: hostname,
            "n": lambda: self._original,
            "p": lambda: self.found.get("port", "22"),
            "r": lambda: self.found.get("user") or account.user(),
            "u": account.user,
            "i": lambda: str(os.getuid()),
            "d": lambda: str(account.home()),
            "L": lambda: socket.gethostname().partition(".")[0],
            "l": socket.getfqdn,
        }
        return tokens[letter]() if letter in tokens else f"%{letter}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        if not os.access(path.parent, os.X_OK):
            return ""  # A home that is not this user's holds nothing for this user.
        raise SshConfigError(
            f"{path} cannot be read ({error.strerror})", hint="let this user read it"
        ) from error


def _is_among(name: str, patterns: list[str]) -> bool:
    """Say whether a name matches one of the patterns, and none of those with a `!`."""
    # Only `*` and `?` are special: brackets stand around an address.
    plain = [one.replace("[", "[[]") for one in patterns]
    if any(fnmatch.fnmatchcase(name, one[1:]) for one in plain if one.startswith("!")):
        return False
    return any(fnmatch.fnmatchcase(name, one) for one in plain)


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


def _without_comment(value: str) -> str:
    """Leave out what follows a `#` at the beginning of a word, outside of quotes."""
    quoted = False
    for at, letter in enumerate(value):
        quoted ^= letter == '"'
        if letter == "#" and not quoted and value[at - 1 : at].strip() == "":
            return value[:at].rstrip()
    return value


def split(text: str, where: str) -> list[str]:
    """Split a line into words as a shell would; there is no shell, so no pipes or redirections."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SshConfigError(
            f"a setting of {where} cannot be split into words: {text!r} ({error})",
            hint="balance its quotes in ~/.ssh/config",
        ) from error


def _find_included(patterns: list[str], folder: Path) -> list[Path]:
    """List the files that one Include line names."""
    places = [folder / account.expand(pattern) for pattern in patterns]
    return [file for place in places for file in sorted(place.parent.glob(place.name))]
