"""The rule that says which backups of an archive are of one database.

A backup belongs to the place of its source: the machine and the path in its manifest. Two
databases of one file name have nothing to do with each other, in one archive or in two. Two more
cases make up the rule:

* Files without a manifest, those of older scripts, belong to every database of their name.
* A database that was moved takes its backups along. That it was moved is found out when its new
  place has no backup yet and just one source of that name is gone from this machine; its first
  backup writes that down. Later a path that is gone may as well be a project that was deleted, or
  a disk that is unplugged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gymdbd.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gymdbd.archive.backup import Backup
    from gymdbd.origin import Place


def of(backups: Iterable[Backup], origin: Origin) -> list[Backup]:
    """Return those that belong to a database, in the order in which they are given."""
    named = [backup for backup in backups if backup.stem == origin.stem]
    places = _all_places(named, origin)
    # There are few places, and to compare two of them may mean to follow links on the disk.
    known = {place: _is_among(place, places) for place in {backup.place for backup in named}}
    return [backup for backup in named if known[backup.place]]


def to_look_at(backups: Iterable[Backup], origin: Origin) -> list[Backup]:
    """Return those that belong to a database; if none is known to, those of the same path as well.

    The machine may have been renamed, or set up anew under another name. That is enough to look at
    them, and not to remove any.
    """
    every = list(backups)
    mine = of(every, origin)
    if any(backup.place for backup in mine):
        return mine
    paths = {backup.path for backup in (*mine, *of_same_path(every, origin))}
    return [backup for backup in every if backup.path in paths]


def of_same_path(backups: Iterable[Backup], origin: Origin) -> list[Backup]:
    """Return those of the same path, on whatever machine."""
    paths = {place.path for place in origin.places[:1]}
    return [
        backup
        for backup in backups
        if backup.stem == origin.stem and backup.place and backup.place.path in paths
    ]


def origins(backups: Iterable[Backup]) -> list[Origin]:
    """Return the databases that these are the backups of; that of the first backup first."""
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


def moved_from(backups: Iterable[Backup], origin: Origin) -> list[Place]:
    """Return the places that a database had before the one that it has now.

    That is what its newest backup says. If it has none, it may be a source that is gone: one, as
    of several nobody knows which.
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
    """Return where a database lies and lay: what was moved is no longer at its former place.

    Something that is there again is another database.
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
    """Say whether it is one of the places; what has none belongs to each."""
    return place is None or any(place.same(other) for other in places)
