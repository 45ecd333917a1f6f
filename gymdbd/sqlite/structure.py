"""Proving the structure of a database by what changed in it, its old state being sound.

`quick_check` reads every page. Where an old state is known to be sound and the new one differs
from it in few pages, reading these is enough. In the old state every page is used exactly once: as
a root or a child in a tree, in an overflow chain, or in the freelist. A page that has not changed
and stands where it stood refers to what it referred to. So the new state is sound when

* every page that changed, or stands in another place, is sound by itself (btree.Page.check);
* what the new versions of these pages and the new freelist refer to is, each page once, what the
  old ones referred to, but for pages that the new state has more or fewer;
* each of these pages was met on a walk from the roots, so that none refer to each other in a
  circle; levels count from the leaves, so that all leaves of a tree lie equally deep.

The walk reads the interior pages of the trees, one page in hundreds; leaves that did not change are
never read. The schema must be the same, and with it the roots. A changed page that is met nowhere
is in the overflow chain of a leaf that did not change: it must go on as before.

Like quick_check this does not see whether the entries of an index are in order, or are those of
its table; it counts them. What quick_check asks of the values in the rows is not asked here: NOT
NULL, CHECK, the types of STRICT tables, and the order of a table WITHOUT ROWID.
"""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING, Collection, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from gymdbd.errors import GymdbdError
from gymdbd.sqlite import btree, database
from gymdbd.sqlite.btree import DoubtError, Place
from gymdbd.sqlite.references import HEADER_SIZE, References

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from gymdbd.sqlite.btree import Chain

TOO_MUCH = "so much changed that a check of everything is as fast"

# With more pages than both of these, quick_check is about as fast.
_FEW_PAGES = 100
_SHARE = 64

_LOCK_BYTE_OFFSET = 2**30
# What an ordinary commit changes in the header: the change counter, the number of pages, the
# freelist, and the counter's copy with the library's version.
_COMMITTED = (slice(24, 40), slice(92, 100))
_AUTO_VACUUM = slice(52, 56)
_SCHEMA = 1
# The indexes that leave rows out, and may have any number of entries.
_PARTIAL = (
    "SELECT i.name FROM sqlite_master AS m, pragma_index_list(m.name) AS i "
    "WHERE m.type = 'table' AND m.rootpage > 0 AND i.partial"
)

# The children of an interior page, each with the rowids that bound it in the page itself.
_Below = List[Tuple[int, Optional[int], Optional[int]]]


class Verdict(NamedTuple):
    """Why the new state cannot be told sound, "" where it is proven.

    Where it is, `gained` are the rows that each table has more, fewer for a negative number.
    """

    doubt: str
    gained: Mapping[str, int] = {}


def compare(old: Path, new: Path, changed: Collection[int]) -> Verdict:
    """Tell by what changed alone whether `new` is sound, and how many rows came and went.

    `old` passes quick_check, nobody writes either file, and their pages are equal but for those
    `changed` and those that only one of them has. A doubt is no error: quick_check decides. No
    content makes this raise. Both files are opened and closed here: this process must not hold
    a lock on them through SQLite.
    """
    try:
        with old.open("rb") as old_file, new.open("rb") as new_file:
            before, after = References(old_file), References(new_file)
            _check_headers(before, after)
            trees, tables = _read_trees(old, new)
            _Proof(before, after, set(changed), trees).run()
    except DoubtError as error:
        return Verdict(str(error))
    except (struct.error, IndexError):
        return Verdict("a page refers to bytes that it has not got")
    except (OSError, GymdbdError, *database.FAULTS) as error:
        return Verdict(f"what is needed cannot be read ({error})")
    return Verdict(
        "", {name: after.rows[root] - before.rows[root] for name, root in tables.items()}
    )


def _check_headers(old: References, new: References) -> None:
    old.check_size()
    new.check_size()
    before, after = bytearray(old.header), bytearray(new.header)
    for part in _COMMITTED:
        before[part] = after[part]
    if before != after:
        raise DoubtError("the header changed in what an ordinary commit leaves alone")
    if any(new.header[_AUTO_VACUUM]):
        raise DoubtError("the database has pointer maps (auto_vacuum)")
    if old.read(_SCHEMA)[HEADER_SIZE:] != new.read(_SCHEMA)[HEADER_SIZE:]:
        raise DoubtError("the schema changed")


def _read_trees(old: Path, new: Path) -> tuple[dict[int, int], dict[str, int]]:
    """Return the root of every tree, with that of the tree that must have as many entries.

    And the root of every table, by its name.
    """
    schemas = []
    partial: set[str] = set()
    for path in (old, new):
        with closing(database.open_immutable(path)) as connection, database.translated(path):
            schemas.append(
                connection.execute(
                    "SELECT CAST(type AS TEXT), CAST(name AS TEXT), CAST(tbl_name AS TEXT), "
                    "rootpage, CAST(sql AS TEXT) FROM sqlite_master ORDER BY rowid"
                ).fetchall()
            )
            partial.update(name for (name,) in connection.execute(_PARTIAL))
    if schemas[0] != schemas[1]:
        raise DoubtError("the schema changed")
    tables = {name: root for kind, name, _, root, _ in schemas[0] if kind == "table" and root}
    trees = {_SCHEMA: _SCHEMA}
    for kind, name, table, root, _ in schemas[0]:
        if root:
            trees[root] = (
                tables.get(table, root) if kind == "index" and name not in partial else root
            )
    return trees, tables


class _Proof:
    """The comparison of an old state with a new one; `trees` are those of _read_trees."""

    def __init__(
        self, old: References, new: References, changed: set[int], trees: dict[int, int]
    ) -> None:
        self.old = old
        self.new = new
        self.changed = {one for one in changed if one > _SCHEMA}
        self.trees = trees
        self.tables = {root for root in trees if btree.is_table(old.read(root), root)}
        self.wanted = {(number,) for number in self.changed}
        self.most = max(_FEW_PAGES, old.count // _SHARE)
        self.unchanged: dict[tuple[int, bool], _Below] = {}

    def run(self) -> None:
        """Raise DoubtError unless the new state is sound."""
        appeared = self._new_pages()
        for state in (self.old, self.new):
            state.read_freelist()
            self._locate(state)
        self._look_at_pages()
        self._follow_chains()
        if self.new.used(self.trees) != self.old.used(self.trees) | appeared:
            raise DoubtError("what was free or is new is not what is used now, or the reverse")
        self._check_unexplained()
        self._check_counts()

    def _new_pages(self) -> set[int]:
        """Return the pages that only the new state has."""
        before, after = self.old.count, self.new.count
        if max(len(self.changed), after - before) > self.most:
            raise DoubtError(TOO_MUCH)
        if after < before:
            raise DoubtError("the database has fewer pages than before")
        appeared = set(range(before + 1, after + 1))
        appeared.discard(_LOCK_BYTE_OFFSET // self.old.page_size + 1)
        if not appeared <= self.changed:
            raise DoubtError("not every new page is among the changed ones")
        return appeared

    def _locate(self, state: References) -> None:
        """Find where in the trees the changed pages stand, down from the roots.

        Within a tree the newest rows come first, which are what changes most. A root that did not
        change stands as high as it stood.
        """
        missing = state.unexplained(self.changed)
        met = set()
        places = [
            (root, Place(root, (state if root in self.changed else self.old).height(root)))
            for root in self.trees
        ]
        while places and missing:
            number, place = places.pop()
            if number in self.changed:
                state.found[number] = place
                missing.discard(number)
            if place.height:
                # Each is walked through once, however often it is referred to.
                if number in met:
                    raise DoubtError(f"page {number} has two parents")
                met.add(number)
                places.extend(self._below(state, number, place))

    def _below(self, state: References, number: int, place: Place) -> Iterator[tuple[int, Place]]:
        """Yield the children of an interior page, of leaves only the changed ones."""
        above_leaves = place.height == 1
        below = self.unchanged.get((number, above_leaves))
        if below is None:
            below = self._read_below(state.read(number), number, above_leaves=above_leaves)
            if number not in self.changed:
                self.unchanged[number, above_leaves] = below
        for child, low, high in below:
            yield (
                child,
                Place(
                    place.tree,
                    place.height - 1,
                    place.low if low is None else low,
                    place.high if high is None else high,
                ),
            )

    def _read_below(self, data: bytes, number: int, *, above_leaves: bool) -> _Below:
        pointers, children = btree.children(data, number)
        if above_leaves and self.wanted.isdisjoint(children):
            return []
        below: _Below = []
        last = len(pointers)
        ordered = btree.is_table(data, number)
        for index, (child,) in enumerate(children):
            if not above_leaves or child in self.changed:
                low = btree.key(data, pointers[index - 1]) if ordered and index else None
                high = btree.key(data, pointers[index]) if ordered and index < last else None
                below.append((child, low, high))
        return below

    def _look_at_pages(self) -> None:
        """Look at every page that changed or stands in another place, before and after."""
        numbers = self.old.found.keys() | self.new.found.keys()
        while numbers:
            if len(self.old.looked) + len(numbers) > self.most:
                raise DoubtError(TOO_MUCH)
            for number in sorted(numbers):
                self._look_at(number)
            referred = self.old.children.keys() | self.new.children.keys()
            numbers = {number for number in referred if self._is_to_be_seen(number)}

    def _is_to_be_seen(self, number: int) -> bool:
        """Say whether a page has to be looked at that has not been yet."""
        before, after = self.old.place(number), self.new.place(number)
        if (before is None or number in self.old.looked) and (
            after is None or number in self.new.looked
        ):
            return False
        looked = number in self.old.looked or number in self.new.looked
        return looked or number in self.changed or not _stayed(before, after)

    def _look_at(self, number: int) -> None:
        known: set[bytes] = set()
        before, after = self.old.place(number), self.new.place(number)
        moved = before is not None and after is not None and before[:2] != after[:2]
        if moved and number not in self.changed:
            raise DoubtError(f"page {number} went to another tree or level as it was")
        if before is not None and number not in self.old.looked:
            page = self.old.look_at(number, before)
            known = set() if moved else page.cells()
        if after is not None and number not in self.new.looked:
            page = self.new.look_at(number, after)
            page.check(after, table=after.tree in self.tables)
            page.check_records(known)

    def _follow_chains(self) -> None:
        """Follow the overflow chains that one state has; those of both if need be.

        A row that was deleted and one that was inserted may have chains that begin alike.
        """
        both = self.old.chains & self.new.chains
        for state in (self.old, self.new):
            self._follow(state, state.chains - both)
        if any(state.unexplained(self.changed) for state in (self.old, self.new)):
            for state in (self.old, self.new):
                self._follow(state, both)

    def _follow(self, state: References, chains: Counter[Chain]) -> None:
        if sum(one.length * many for one, many in chains.items()) > self.most:
            raise DoubtError(TOO_MUCH)
        for one in chains.elements():
            state.follow(one)

    def _check_unexplained(self) -> None:
        """Check those met nowhere, which are overflow pages of leaves that did not change."""
        for number in self.old.unexplained(self.changed) | self.new.unexplained(self.changed):
            if self.old.first_number(number) != self.new.first_number(number):
                raise DoubtError(f"the overflow chain over page {number} changed")

    def _check_counts(self) -> None:
        """Check that each index gained as many entries as its table gained rows."""
        gained = {tree: self.new.rows[tree] - self.old.rows[tree] for tree in self.trees}
        for tree, like in self.trees.items():
            if gained[tree] != gained[like]:
                raise DoubtError(f"the index at page {tree} has not as many entries as its table")


def _stayed(before: Place | None, after: Place | None) -> bool:
    """Say whether an unchanged page may stand where it stands by having stood where it stood."""
    return (
        before is not None
        and after is not None
        and before[:2] == after[:2]
        and after.low <= before.low
        and before.high <= after.high
    )
