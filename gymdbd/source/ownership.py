"""Mode, owner and group of a database, as a manifest keeps them.

By name, and by number for a machine that has not the name.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = ("mode", "owner", "group", "uid", "gid")

_MODE = re.compile(r"0[0-7]{3}")
_MOST_NAME = 256
_MOST_NUMBER = 2**32 - 2


def read(path: Path) -> dict[str, Any]:
    """Return FIELDS of a file: `mode` such as "0640", names or numbers as text, the numbers."""
    facts = path.stat()
    return describe(facts.st_mode, facts.st_uid, facts.st_gid)


def describe(mode: int, uid: int, gid: int, *, names: bool = True) -> dict[str, Any]:
    """Return FIELDS for what stat says; without `names` if this machine's mean nothing."""
    return {
        "mode": f"{mode & 0o777:04o}",
        "owner": (_user_name(uid) if names else None) or str(uid),
        "group": (_group_name(gid) if names else None) or str(gid),
        "uid": uid,
        "gid": gid,
    }


def parse(value: Any) -> dict[str, Any]:
    """Return the valid ones of FIELDS: they may come from another machine."""
    if not isinstance(value, dict):
        return {}
    found: dict[str, Any] = {}
    mode = value.get("mode")
    if isinstance(mode, str) and _MODE.fullmatch(mode):
        found["mode"] = mode
    for name in ("owner", "group"):
        text = value.get(name)
        if isinstance(text, str) and 0 < len(text) <= _MOST_NAME:
            found[name] = text
    for name in ("uid", "gid"):
        number = value.get(name)
        if type(number) is int and 0 <= number <= _MOST_NUMBER:
            found[name] = number
    return found


def give_back(path: Path, value: Any) -> str:
    """Give a file of ours the mode, owner and group of a manifest; return what could not be given.

    Only root may give away a file; who is in the group may give it that.
    """
    wanted = parse(value)
    uid = _number(wanted.get("owner"), wanted.get("uid"), uid_of)
    gid = _number(wanted.get("group"), wanted.get("gid"), gid_of)
    refused = []
    for name, number, place in (("group", gid, (-1, gid)), ("owner", uid, (uid, -1))):
        facts = path.stat()
        if number is None or number == (facts.st_uid if name == "owner" else facts.st_gid):
            continue
        try:
            os.chown(path, *(-1 if number is None else number for number in place))
        except OSError:
            refused.append(f"{name} {wanted.get(name, number)}")
    if "mode" in wanted:
        path.chmod(int(wanted["mode"], 8))
    return " and ".join(refused)


def _number(name: Optional[str], number: Optional[int], look_up: Any) -> Optional[int]:
    found = look_up(name) if name else None
    return number if found is None else int(found)


def _user_name(uid: int) -> Optional[str]:
    import pwd  # noqa: PLC0415 - seldom needed, and imports are most of the serving side's start

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _group_name(gid: int) -> Optional[str]:
    import grp  # noqa: PLC0415 - as above

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def uid_of(name: str) -> Optional[int]:
    """Return the number of a user of this machine, None if there is none of this name."""
    import pwd  # noqa: PLC0415 - as above

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def gid_of(name: str) -> Optional[int]:
    """Return the number of a group of this machine, None if there is none of this name."""
    import grp  # noqa: PLC0415 - as above

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
