"""The rule for which backups of an archive are of the same database.

A backup belongs to the place of its source: the machine and the path in its manifest. Two databases
with the same file name are unrelated, in one archive or in two. There are two more cases:

* Files without a manifest, made by older scripts, belong to every database of their name.
* If a database is moved, its backups still belong to it. A move is assumed if the new place has no
  backup yet and exactly one source of that name no longer exists on this machine; the first backup
  at the new place records it. Later, a missing path may just as well be a deleted project or an
  unplugged disk.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from gymdbd import names
from gymdbd.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gymdbd.archive.backup import Backup
    from gymdbd.origin import Place


def of(backups: Iterable[Backup], origin: Origin) -> list[Backup]:
    """Return the backups of a database, in the given order."""
    named = [backup for backup in backups if backup.stem == origin.stem]
    places = _all_places(named, origin)
    # Comparing two places may follow links on the disk, so it is done once for each place.
    known = {place: _is_among(place, places) for place in {backup.place for backup in named}}
    return [backup for backup in named if known[backup.place]]


def is_surely_of(backup: Backup, origin: Origin) -> bool:
    """Return whether a backup is of a database, whatever other backups there are; False: perhaps.

    It was made at one of the places where the database is known to be.
    """
    return (
        backup.stem == origin.stem
        and backup.place is not None
        and _is_among(backup.place, origin.places)
    )


def likely(backups: Iterable[Backup], origin: Origin) -> list[Backup]:
    """Return the backups of a database; if there are none, also those of the same path.

    The machine may have been renamed, or reinstalled with another name. That is enough to read such
    backups, but not to remove them.
    """
    every = list(backups)
    mine = of(every, origin)
    if any(backup.place for backup in mine):
        return mine
    paths = {backup.path for backup in (*mine, *of_same_path(every, origin))}
    return [backup for backup in every if backup.path in paths]


def of_same_path(backups: Iterable[Backup], origin: Origin) -> list[Backup]:
    """Return the backups of the same path on any machine."""
    paths = {names.plain(place.path) for place in origin.places[:1]}
    return [
        backup
        for backup in backups
        if backup.stem == origin.stem and backup.place and names.plain(backup.place.path) in paths
    ]


def origins(backups: Iterable[Backup]) -> list[Origin]:
    """Return the databases of these backups; that of the first backup first."""
    backups, found = list(backups), []
    for stem in dict.fromkeys(backup.stem for backup in backups):
        named = [backup for backup in backups if backup.stem == stem]
        left = _distinct(backup.place for backup in named)
        if not left:
            found.append(Origin(stem, ()))
        while left:
            found.append(Origin(stem, (left[0],)))
            places = _all_places(named, found[-1])
            left = [place for place in left if not _is_among(place, places)]
    return found


def apart(backups: Iterable[Backup]) -> list[tuple[Origin | None, list[Backup]]]:
    """Return the backups of each database, in the given order, without any of them twice.

    Files without a manifest that may be of several come last, and with them those of no database.
    """
    every = list(backups)
    known = origins(every)
    stems = Counter(origin.stem for origin in known)
    found: list[tuple[Origin | None, list[Backup]]] = []
    told: set[Path] = set()
    for origin in known:
        mine = [
            backup
            for backup in of(every, origin)
            if backup.path not in told and (backup.place or stems[origin.stem] == 1)
        ]
        told.update(backup.path for backup in mine)
        found.append((origin, mine))
    rest = [backup for backup in every if backup.path not in told]
    return [*found, (None, rest)] if rest else found


def moved_from(backups: Iterable[Backup], origin: Origin) -> list[Place]:
    """Return the earlier places of a database.

    They are recorded in its newest backup. If it has no backup, it is assumed to be the only source
    of its name that no longer exists; if there are several, it is unknown which.
    """
    named = [backup for backup in backups if backup.stem == origin.stem]
    for backup in named:
        if backup.place is None or backup.is_overwritten:
            continue
        if _is_among(backup.place, origin.places):
            return list(backup.former_places)
    if not origin.places or not origin.places[0].is_here:
        return []
    earlier = [place for backup in named for place in backup.former_places]
    gone = [
        place
        for place in _distinct(backup.place for backup in named)
        if place.is_gone and not _is_among(place, earlier)
    ]
    if len(gone) != 1:
        return []
    return _distinct([*gone, *moved_from(named, Origin(origin.stem, (gone[0],)))])


def _all_places(named: list[Backup], origin: Origin) -> list[Place]:
    """Return the present and earlier places of a database.

    A file that exists at an earlier place is another database, because this one has moved.
    """
    places = _distinct([*origin.places, *moved_from(named, origin)])
    links = dict.fromkeys((backup.place, *backup.former_places) for backup in named)
    known = 0
    while known != len(places):
        known = len(places)
        for link in links:
            if any(_is_among(place, places) for place in link if place is not None):
                places = _distinct([*places, *link])
    return [
        place
        for place in places
        if _is_among(place, origin.places) or place.is_gone or not place.is_here
    ]


def _distinct(places: Iterable[Place | None]) -> list[Place]:
    found: list[Place] = []
    for place in dict.fromkeys(places):
        if place is not None and not _is_among(place, found):
            found.append(place)
    return found


def _is_among(place: Place | None, places: Iterable[Place]) -> bool:
    """Return whether `place` is one of the places; None belongs to all of them."""
    return place is None or any(place.same(other) for other in places)
