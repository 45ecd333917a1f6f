"""OpenSSH's own settings for a host, as `ssh -G HOST` prints them.

That takes ten milliseconds and covers every Match, Include and default of its release, and
`/etc/ssh/ssh_config` too.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gymdbd import groups
from gymdbd.remote.errors import HostNotFoundError, SshConfigError
from gymdbd.remote.ssh import account

if TYPE_CHECKING:
    from collections.abc import Sequence

# A Match may run a command, and a host name may need a name server to complete it.
_TIMEOUT_S = 30.0
_MOST_BYTES = 1024 * 1024
_MOST_SHOWN = 500
_LOOK_S = 0.1
_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


class Options(dict[str, list[str]]):
    """Each keyword, in lower case, with its values."""

    def all(self, keyword: str) -> list[str]:
        """Return every value of a keyword."""
        return self.get(keyword, [])

    def first(self, keyword: str) -> str:
        """Return the one value of a keyword; "" if it is not set, or `none`."""
        value = next(iter(self.all(keyword)), "")
        return "" if value.lower() == "none" else value

    def is_set(self, keyword: str) -> bool:
        """Return whether a keyword is set to anything but `no`."""
        return self.first(keyword) not in ("", "no", "false")

    def paths(self, keyword: str) -> list[str]:
        """Return file names, which are on one line, without the quotes around spaces."""
        return [name for name in re.split(" (?=[/~])", self.first(keyword)) if name]

    def known_hosts(self) -> list[str]:
        """Return the names of the known_hosts files."""
        return [*self.paths("userknownhostsfile"), *self.paths("globalknownhostsfile")]

    def number(self, keyword: str, own: float | None, usual: float) -> float:
        """Return `own`, or else the keyword's number, or else `usual`."""
        value = self.first(keyword)
        if own is not None:
            return own
        return float(value) if value.isdigit() and value != "0" else usual


def ask(
    host: str,
    *,
    user: str | None = None,
    port: int | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Options:
    """Return how OpenSSH would reach a host, given the command line's `user` and `port`.

    Without an ssh program: OpenSSH's defaults. Raises SshConfigError with OpenSSH's message for
    files that it refuses, and if there are files but no ssh program to read them.
    """
    if host.startswith("-"):
        raise SshConfigError(
            f"{host!r} is not the name of a host: it begins with a -",
            hint="correct host or proxy_jump in the configuration",
        )
    if not all(word.isprintable() for word in (host, user or "")):
        raise SshConfigError(
            f"{host!r} as {user!r} cannot be reached: a name holds a control character"
            if user
            else f"{host!r} is not the name of a host: it holds a control character",
            hint="correct host, user or proxy_jump in the configuration",
        )
    folder = account.folder()
    program = shutil.which("ssh")
    if program is None:
        return _defaults(folder, "there is no ssh program here")
    words = [program, "-G", *_file_words(folder)]
    words += ["-p", str(port)] if port else []
    words += ["-l", user] if user else []
    status, output, complaint = _run([*words, "--", host], timeout_s)
    if status == 0:
        return _parse(output, folder)
    if "No user exists for uid" in complaint:
        return _defaults(folder, "OpenSSH does not work for a user without a name")
    raise _refused(host, complaint)


def _file_words(folder: Path | None) -> list[str]:
    """Name the file of a home other than the account's: OpenSSH would not read it."""
    if folder is None or _account_folder() == folder:
        return []
    file = folder / "config"
    return ["-F", str(file) if os.path.exists(file) else "none"]  # noqa: PTH110 - no error


def _account_folder() -> Path | None:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir) / ".ssh"
    except KeyError:
        return None


def _defaults(folder: Path | None, reason: str) -> Options:
    """Return OpenSSH's defaults; raises if there is a file that ssh would have to read."""
    file = folder / "config" if folder else None
    if file is not None and os.path.exists(file):  # noqa: PTH110 - no error
        raise SshConfigError(
            f"{file} cannot be read: {reason}",
            hint="install it (sudo apt install openssh-client) and see that PATH reaches it, or "
            "move the file away and write what the host needs under ssh: in the configuration",
        )
    return Options(
        identityfile=[f"{folder}/{name}" for name in _KEYS if folder],
        userknownhostsfile=[f"{folder}/known_hosts {folder}/known_hosts2"] if folder else [],
        globalknownhostsfile=["/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"],
    )


def _run(words: list[str], timeout_s: float) -> tuple[int, str, str]:
    """Run a program without input; return its exit status, stdout and stderr."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaint:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaint,
            start_new_session=True,
        )
        try:
            status = _wait(process, (output, complaint), words, timeout_s)
        finally:
            if process.returncode is None:
                groups.send(process.pid, signal.SIGKILL)
                process.wait()
        return status, _read(output), _read(complaint)


def _wait(
    process: subprocess.Popen[bytes], files: Sequence[IO[bytes]], words: list[str], timeout_s: float
) -> int:
    """Wait for the exit status, for as long as the time lasts and the files stay small."""
    deadline = time.monotonic() + timeout_s
    status = None
    while status is None and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(_LOOK_S)
        if any(os.fstat(file.fileno()).st_size > _MOST_BYTES for file in files):
            # What lies beyond may be the proxy, or how to know the host.
            raise SshConfigError(
                f"ssh -G {words[-1]} prints more than {_MOST_BYTES} bytes",
                hint=f"see what {words[0]} is, and what a Match exec in ~/.ssh/config prints",
            )
    if status is None:
        raise SshConfigError(
            f"ssh -G {words[-1]} does not end within {timeout_s:g} s",
            hint="run it by hand: a command of Match exec in ~/.ssh/config, or the name "
            "server, does not answer",
        )
    return status


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST_BYTES).decode("utf-8", "surrogateescape")


def _parse(output: str, folder: Path | None) -> Options:
    options = Options()
    for line in output.splitlines():
        keyword, _, value = line.partition(" ")
        options.setdefault(keyword.lower(), []).append(value)
    other = _account_folder()
    if folder and other and folder != other:
        # OpenSSH's default files are in the account's home.
        options["userknownhostsfile"] = [
            value.replace(f"{other}/known_hosts", f"{folder}/known_hosts")
            for value in options.get("userknownhostsfile", [])
        ]
    return options


def _refused(host: str, complaint: str) -> HostNotFoundError | SshConfigError:
    reason = "; ".join(line.strip() for line in complaint.splitlines() if line.strip())
    reason = reason[:_MOST_SHOWN] or "it does not say why"
    if "Could not resolve" in reason:
        return HostNotFoundError(
            f"{host} cannot be completed to a full name ({reason})",
            hint="check CanonicalDomains in ~/.ssh/config, and the network",
        )
    return SshConfigError(
        f"OpenSSH cannot tell how to reach {host}: {reason}",
        hint=f"ssh -G {host} says the same; correct the line that it names. Before an option that "
        "only another system's ssh knows, write IgnoreUnknown with its name, such as "
        "IgnoreUnknown UseKeychain",
    )
