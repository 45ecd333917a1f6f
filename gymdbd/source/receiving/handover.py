"""Giving a file that came from another machine the mode, owner and group that were recorded."""

from __future__ import annotations

import contextlib
import os
import shlex
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from gymdbd.source import ownership

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERS = {"owner": "uid", "group": "gid"}


def hand_over(file: int, value: Any, like: os.stat_result, path: Path) -> List[str]:
    """Give an open file what a manifest has of its source; return what could not be given.

    A user or group that this machine does not have is not guessed by its number, which is somebody
    else's here. If root has no other to name, the file gets those of `like`, its folder.
    """
    wanted, is_root = ownership.parse(value), os.geteuid() == 0
    numbers = {what: _number(wanted, what) for what in _NUMBERS}
    for what, given in (("group", like.st_gid), ("owner", like.st_uid)):
        number = given if numbers[what] is None and is_root else numbers[what]
        if number is not None:
            pair = (number, -1) if what == "owner" else (-1, number)
            with contextlib.suppress(PermissionError):
                os.fchown(file, *pair)
    if "mode" in wanted:
        os.fchmod(file, int(wanted["mode"], 8))
    return _remarks(wanted, numbers, os.fstat(file), path)


def _number(wanted: Dict[str, Any], what: str) -> Optional[int]:
    """Return the number of a recorded user or group here; None if there is none of this name."""
    name, number = wanted.get(what), wanted.get(_NUMBERS[what])
    if name is None or name == str(number):
        # Over SFTP only the number is known.
        return number
    return ownership.uid_of(name) if what == "owner" else ownership.gid_of(name)


def _remarks(
    wanted: Dict[str, Any], numbers: Dict[str, Optional[int]], facts: os.stat_result, path: Path
) -> List[str]:
    found = ownership.describe(facts.st_mode, facts.st_uid, facts.st_gid)
    remarks = []
    if not wanted:
        remarks.append(
            f"its mode and owner were not recorded: it belongs to {found['owner']}, and only that "
            "user may read it"
        )
    for what, number in numbers.items():
        name, now = wanted.get(what), found[what]
        if name is None or number == found[_NUMBERS[what]]:
            continue
        if number is None:
            remarks.append(f"its {what} is {now}, because there is no {name} on this machine")
        else:
            words = ["sudo", "chown", name if what == "owner" else f":{name}", str(path)]
            remarks.append(f"its {what} is {now}, not {name}: {shlex.join(words)}")
    return remarks
