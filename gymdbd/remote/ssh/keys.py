"""A key of this machine for pulls alone: made by ssh-keygen, without a passphrase."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files, groups
from gymdbd.remote.errors import SshConfigError
from gymdbd.remote.ssh import authorized

if TYPE_CHECKING:
    from gymdbd.remote.ssh.authorized import PublicKey

_TIMEOUT_S = 60
_MOST_BYTES = 65536


def ensure(path: Path, comment: str) -> tuple[PublicKey, bool]:
    """Return the public key of the private key at `path`, and whether it has been made just now.

    A key that is there stays as it is. Raises SshConfigError if it cannot be used unattended.
    """
    made = False
    if not os.path.lexists(path):
        files.make_folder(path.parent)
        with files.writing(path):
            made = _make(path, comment)
    return public(path), made


def public(path: Path) -> PublicKey:
    """Compute the public key, so that the private one is known to work without a passphrase."""
    text = _run("-y", "-P", "", "-f", str(path))
    if text is None:
        raise SshConfigError(
            f"the key {path} has a passphrase, others may read it, or it is damaged",
            hint=f"if others may read it: chmod 600 {path}. Otherwise move it out of the way "
            f"(mv {path} {path}.old), and a new one is made",
        )
    return authorized.read_key(text)


def _make(path: Path, comment: str) -> bool:
    """Make a key, and return whether it got the name; another process may make one meanwhile.

    If this process is killed, there is none, or a whole one.
    """
    with tempfile.TemporaryDirectory(prefix=".gymdbd-key-", dir=path.parent) as folder:
        new = Path(folder, path.name)
        if _run("-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(new)) is None:
            raise SshConfigError(
                f"ssh-keygen could not make the key {path}",
                hint=f"make it by hand, and type this again: ssh-keygen -t ed25519 -N '' -f {path}",
            )
        files.sync_file(new)
        is_ours = files.take_name(new, path)
        if is_ours:
            beside = path.with_name(path.name + ".pub")
            files.take_name(new.with_name(beside.name), beside)
        return is_ours


def _run(*words: str) -> str | None:
    """Return what ssh-keygen prints, None if it fails."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise SshConfigError(
            "there is no program ssh-keygen, which makes the key",
            hint="install OpenSSH's client (apt-get install openssh-client)",
        )
    done = groups.run([program, *words], timeout_s=_TIMEOUT_S, most=_MOST_BYTES)
    return done.output.decode() if done.code == 0 else None
