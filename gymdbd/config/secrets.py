"""Secrets of the configuration: passwords, keys, and URLs with a key in them.

The configuration says where a secret is; it is read at the moment of its use. It is in no `repr`,
no error and no log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymdbd import acting, bounded, files, trust
from gymdbd.config import values
from gymdbd.config.document import items, key, path, scalar
from gymdbd.config.scalars import TEXT
from gymdbd.errors import SecretCommandError, SecretExposedError, SecretMissingError

if TYPE_CHECKING:
    import yaml

    from gymdbd.config.document import Document

_MOST_BYTES = 64 * 1024
_TIMEOUT_S = 10.0
_OTHERS = 0o077
_CREDENTIALS = "CREDENTIALS_DIRECTORY"
# Where the installer lets systemd look for them, and where systemd puts them for the service.
CREDENTIALS = Path("/etc/gymdbd/credentials")
HANDED = Path("/run/credentials/gymdbd.service")


@dataclass(frozen=True, kw_only=True, repr=False)
class Secret:
    """Where a secret is: exactly one of a file, a credential, a command and a variable.

    Or it is `literal`, if it stands in the configuration itself.
    """

    file: Path | None = key(path, None)
    credential: str | None = key(scalar(values.job_name, "str"), None)
    command: tuple[str, ...] = key(items(scalar(values.text, "str", "int", "float")), ())
    env: str | None = key(TEXT, None)
    literal: str = ""

    def faults(self) -> list[str]:
        """Return an error unless the secret is in exactly one place."""
        if sum(map(bool, (self.file, self.credential, self.command, self.env))) == 1:
            return []
        return ["expected one of file, credential, command and env"]

    def __repr__(self) -> str:
        """Return its place; a literal is masked, and of a command there is only the program."""
        return f"<secret: {self.place}>"

    __str__ = __repr__

    @property
    def place(self) -> str:
        """Return where the secret is, for messages."""
        if self.file:
            return f"the file {self.file}"
        if self.credential:
            return f"the credential {self.credential}"
        if self.command:
            return f"what {Path(self.command[0]).name} prints"
        return f"${self.env}" if self.env else "***"

    def read(self, timeout_s: float = _TIMEOUT_S) -> str:
        """Return the secret without the line break at its end; SecretError if it cannot be had.

        A command that prints it is ended after `timeout_s`.
        """
        if self.literal:
            return self.literal
        if self.env:
            return self._checked(os.environ.get(self.env, "").encode("utf-8", "surrogateescape"))
        if self.command:
            return self._checked(self._printed(timeout_s))
        if self.credential:
            return self._checked(self._content(self._credential(self.credential)))
        assert self.file is not None  # noqa: S101 - `faults` has seen to it
        return self._checked(self._content(self.file))

    def packed(self) -> dict[str, Any]:
        """Return it for a pipe to a process of ours: a literal is in it as it is."""
        return {**vars(self), "file": str(self.file) if self.file else None}

    @classmethod
    def unpacked(cls, content: dict[str, Any]) -> Secret:
        """Return what `packed` has made."""
        file, command = content["file"], tuple(content["command"])
        return cls(**{**content, "file": Path(file) if file else None, "command": command})

    def _checked(self, data: bytes) -> str:
        try:
            found = data.decode().removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError:
            found = ""
        if len(data) > _MOST_BYTES or "\0" in found or not found.strip():
            raise SecretMissingError(
                f"{self.place} holds no secret: it is unset, empty, no text, or larger than 64 KiB",
                hint="put the secret there, as one line of text",
            )
        return found

    def _content(self, file: Path) -> bytes:
        try:
            # What root runs by hand reads what was put there for the user of the daemon.
            with acting.reading_as_owner(file):
                return self._private(file)
        except OSError as error:
            raise SecretMissingError(
                f"{self.place} cannot be read ({error.strerror or error})",
                hint=f"write the secret into {file}; it must belong to the user of gymdbd (uid "
                f"{os.geteuid()}) or root, with mode 0600",
            ) from error

    def _private(self, file: Path) -> bytes:
        """Return the content of a file that nobody else may read."""
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            facts = os.fstat(descriptor)
            bounded.require_ordinary(facts)
            if not _is_of_systemd(file):
                self._refuse_exposed(descriptor, facts.st_mode, file)
            return opened.read(_MOST_BYTES + 1)

    def _refuse_exposed(self, descriptor: int, mode: int, file: Path) -> None:
        doubt = trust.doubt_of(descriptor, file)
        if doubt is None and mode & _OTHERS:
            doubt = trust.Doubt("others may read it", f"chmod 600 {file}; and replace the secret")
        if doubt:
            raise SecretExposedError(f"{self.place} is not used: {doubt.reason}", hint=doubt.remedy)

    def _credential(self, name: str) -> Path:
        folder = _handed()
        if folder and files.is_file(folder / name):
            return folder / name
        unit = (
            f"write it into {CREDENTIALS / name} (root's, mode 0600), run deploy/install.sh again, "
            "which lets the unit have it, and restart the unit"
        )
        if folder:
            raise SecretMissingError(f"systemd passes no credential {name} to this unit", hint=unit)
        raise SecretMissingError(
            f"there is no credential {name}, because systemd did not start this process",
            hint=f"{unit}; by hand, type it as the user of the unit while that runs",
        )

    def _printed(self, timeout_s: float) -> bytes:
        from gymdbd import groups  # noqa: PLC0415 - each verb reads the configuration

        if doubt := trust.doubt_of_command(self.command):
            raise SecretExposedError(
                f"{Path(self.command[0]).name} is not asked for a secret, because others could "
                f"have written it: {doubt.reason}",
                hint=doubt.remedy,
            )
        try:
            done = groups.run(self.command, timeout_s=timeout_s, most=_MOST_BYTES + 1)
        except OSError as error:
            raise self._failed(f"cannot be run ({error.strerror})") from error
        if done.code != 0:
            took = f"took longer than {timeout_s:.0f} s"
            raise self._failed(took if done.code is None else f"returned {done.code}")
        return done.output

    def _failed(self, how: str) -> SecretCommandError:
        return SecretCommandError(
            f"the command {Path(self.command[0]).name}, which prints a secret, {how}",
            hint="run it by hand as the user of gymdbd; it has no terminal and no shell here, and "
            "must print the secret and nothing else",
        )


def _handed() -> Path | None:
    """Return the folder of the credentials: of this process, or of the service if that runs.

    systemd lets the user of the service see the latter, who may type a command by hand.
    """
    if folder := os.environ.get(_CREDENTIALS):
        return Path(folder)
    try:
        return HANDED if files.is_folder(HANDED) else None
    except OSError:
        return None


def _is_of_systemd(file: Path) -> bool:
    """Return whether systemd has put a file there for this unit alone, whatever its mode says."""
    folder = _handed()
    return folder is not None and file.is_relative_to(folder)


def secret(document: Document, node: yaml.Node, keypath: str) -> Secret | None:
    """Read where a secret is; a literal only if nobody else may read the file it stands in."""
    if not isinstance(node.value, str):
        return document.section(node, Secret, keypath)
    # No message of this repeats the value, because the log has it.
    if node.tag.rpartition(":")[2] != "str" or not node.value.strip() or "\0" in node.value:
        raise ValueError("expected a text in quotes, or one of file, credential, command and env")
    if document.is_exposed:
        raise ValueError(
            f"a secret may stand here only if nobody else can read the file: chmod 600 "
            f"{document.source}, or write {{file: PATH}} and put the secret there"
        )
    return Secret(literal=node.value)
