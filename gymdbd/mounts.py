"""How the file system of a path is mounted: its kind, and whether and why it is read-only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

READ_ONLY, FAILED = "read-only", "failed"

_PROC = Path("/proc")
# A file system of another machine: an I/O error of it says nothing about a disk or card here.
_SHARES = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "davfs", "virtiofs", "fuse")
_DISKS = ("fuseblk",)
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A mounted file system.

    `state` is "" if it can be written, READ_ONLY if somebody has mounted it so, FAILED if the
    kernel no longer writes to it after an error. `kind` is "" if the system does not tell.
    """

    state: str
    kind: str

    @property
    def is_local(self) -> bool:
        """Return whether it is known to be on a disk or card of this machine."""
        return self.kind in _DISKS or (self.kind != "" and not self.kind.startswith(_SHARES))


def of(path: Path, proc: Path = _PROC) -> Mount:
    """Return the mount that a folder or file is on; raises OSError if there is nothing."""
    read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    state = READ_ONLY if read_only else ""
    fields = _line(Path(os.path.realpath(path)), proc)
    if not fields:
        return Mount(state, "")
    # The options of this mount, and behind the hyphen those of the file system itself. After an
    # error the kernel changes only the latter; ext4 from Linux 6.15 on does not even set its flag.
    own, middle = fields[5].split(","), fields.index("-")
    system = fields[middle + 3].split(",")
    gone = "emergency_ro" in system or "shutdown" in system
    return Mount(
        FAILED if gone or ("ro" in system and "ro" not in own) else state, fields[middle + 1]
    )


def _line(path: Path, proc: Path) -> list[str]:
    """Return the fields of the mount of a path in Linux's table; none if there is no table."""
    try:
        table = (proc / "self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return []
    found, longest = [], -1
    for fields in map(str.split, table.splitlines()):
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        # Of several mounts at one place, the last covers the others.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = fields, len(point.parts)
    return found
