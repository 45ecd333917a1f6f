"""The pages of a b-tree as bytes: what one refers to, and whether it is sound by itself.

Format: https://www.sqlite.org/fileformat2.html section 1.6. What `check` asks of a page is what
SQLite's own check asks (checkTreePage in its btree.c), and that its records can be read; it is
stricter where no SQLite ever writes what would pass there.
"""

from __future__ import annotations

import struct
from itertools import repeat
from operator import le, lt
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# No rowid is out of these; a page holds rowids above its lower bound, up to its upper bound.
LOWEST = -(2**63) - 1
HIGHEST = 2**63 - 1

_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE = 2, 5, 10, 13
_LEAF = 8
_HEADER = struct.Struct(">BHHHB")
_LEAF_HEADER_SIZE = 8
_INTERIOR_HEADER_SIZE = 12
_FILE_HEADER_SIZE = 100
_CHILD = struct.Struct(">I")
_FREEBLOCK = struct.Struct(">HH")
_LARGEST_PAGE = 65536
_SMALLEST_CELL = 4
_LONGEST_SIZE = 5
_SMALLEST_HEAD = 2
_CONTINUES = 0x80
# The bytes of content behind each of the smallest serial types; those above are texts and blobs.
_SERIAL_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0)


class DoubtError(Exception):
    """Something is not, or is not known to be, as it has to be; it says what."""


class Place(NamedTuple):
    """Where in which tree a page stands: above how many levels, between which rowids.

    `tree` is the root's page. `low` and `high` matter in the trees of tables only.
    """

    tree: int
    height: int
    low: int = LOWEST
    high: int = HIGHEST


class Chain(NamedTuple):
    """A chain of overflow pages: the first of them, and how many there must be."""

    first: int
    length: int


class Form:
    """How much of a page is used, and how much of a payload lies in the page itself."""

    def __init__(self, page_size: int, reserved: int) -> None:
        self.usable = page_size - reserved
        self.least = (self.usable - 12) * 32 // 255 - 23
        self.most_in_table = self.usable - 35
        self.most_in_index = (self.usable - 12) * 64 // 255 - 23

    def local(self, payload: int, most: int) -> int:
        """Return how many bytes of a payload lie in the page."""
        if payload <= most:
            return payload
        surplus = self.least + (payload - self.least) % (self.usable - 4)
        return surplus if surplus <= most else self.least


def is_leaf(data: bytes, number: int) -> bool:
    """Say whether a page of a tree is a leaf; `number` is the page's."""
    return bool(data[_start(number)] & _LEAF)


def is_table(data: bytes, number: int) -> bool:
    """Say whether a page is of the tree of a table with rowids."""
    return data[_start(number)] in {_INTERIOR_TABLE, _LEAF_TABLE}


def children(data: bytes, number: int) -> tuple[tuple[int, ...], list[tuple[int]]]:
    """Return where the cells of an interior page lie, and its children, each in a tuple.

    This is read for one page in hundreds of the database, hence without a loop in Python.
    """
    start = _start(number)
    kind, _, count, _, _ = _HEADER.unpack_from(data, start)
    if kind not in {_INTERIOR_INDEX, _INTERIOR_TABLE}:
        raise DoubtError(f"page {number} is no interior page")
    pointers = struct.unpack_from(f">{count}H", data, start + _INTERIOR_HEADER_SIZE)
    found = list(map(_CHILD.unpack_from, repeat(data), pointers))
    found.append(_CHILD.unpack_from(data, start + _LEAF_HEADER_SIZE))
    return pointers, found


def key(data: bytes, pointer: int) -> int:
    """Return the rowid in a cell of an interior page of a table."""
    return _signed(_varint(data, pointer + 4)[0])


def _start(number: int) -> int:
    return _FILE_HEADER_SIZE if number == 1 else 0


class Page:
    """A page of a tree, taken apart; `number` is never 1, which holds the file's header as well.

    Its `children` and `keys` are in their order (a child more than keys; none in a leaf), its
    `chains` those of its payloads. Raises DoubtError, struct.error or IndexError for what
    cannot be taken apart.
    """

    def __init__(self, data: bytes, number: int, form: Form) -> None:
        self.data = data
        self.number = number
        self.form = form
        self.kind, self._freeblock, count, content, self._fragments = _HEADER.unpack_from(data)
        if self.kind not in {_INTERIOR_INDEX, _INTERIOR_TABLE, _LEAF_INDEX, _LEAF_TABLE}:
            raise self._doubt("is of no known type")
        self.leaf = bool(self.kind & _LEAF)
        self.table = self.kind in {_INTERIOR_TABLE, _LEAF_TABLE}
        self._content = content or _LARGEST_PAGE
        head = _LEAF_HEADER_SIZE if self.leaf else _INTERIOR_HEADER_SIZE
        self._head_end = head + 2 * count
        self.starts: tuple[int, ...] = struct.unpack_from(f">{count}H", data, head)
        self.ends: list[int] = []
        self.children: list[int] = []
        self.keys: list[int] = []
        self.chains: list[Chain] = []
        if self.kind == _INTERIOR_TABLE:
            self._take_dividers()
        elif not (self.kind == _LEAF_INDEX and self._take_short_entries()):
            self._take_payloads()
        if not self.leaf:
            self.children = [child for (child,) in children(data, number)[1]]

    @property
    def rows(self) -> int:
        """Return how many entries of the table or index lie in this page."""
        return 0 if self.kind == _INTERIOR_TABLE else len(self.starts)

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield where each cell begins and ends."""
        return zip(self.starts, self.ends)  # noqa: B905 - of one length, and Python 3.9 knows no strict

    def cells(self) -> set[bytes]:
        """Return the bytes of every cell."""
        return {self.data[start:end] for start, end in self.spans()}

    def places(self, place: Place) -> Iterator[tuple[int, Place]]:
        """Yield every child with its place, given this page's own."""
        tree, height, low, high = place
        bounds = [low, *self.keys, high]
        for index, child in enumerate(self.children):
            if self.table:
                low, high = bounds[index], bounds[index + 1]
            yield child, Place(tree, height - 1, low, high)

    def check(self, place: Place, *, table: bool) -> None:
        """Raise DoubtError unless this page is sound in a place of a tree of this kind."""
        if (self.table, self.leaf) != (table, place.height == 0):
            raise self._doubt("is of the wrong type")
        if not (self.starts or (self.leaf and self.number == place.tree)):
            raise self._doubt("has no cells")
        self._check_coverage()
        if self.table:
            self._check_keys(place)

    def check_records(self, known: set[bytes]) -> None:
        """Raise DoubtError unless the records can be read, but for those in `known` cells."""
        if self.kind == _INTERIOR_TABLE:
            return
        for start, end in self.spans():
            if self.data[start:end] not in known:
                self._check_record(start)

    def _take_dividers(self) -> None:
        for start in self.starts:
            value, end = _varint(self.data, start + 4)
            self.keys.append(_signed(value))
            self.ends.append(end)

    def _take_short_entries(self) -> bool:
        """Take the leaf of an index apart the fast way, if its entries are as short as most are."""
        sizes = [self.data[start] for start in self.starts]
        if max(sizes, default=0) > min(self.form.most_in_index, _CONTINUES - 1):
            return False
        # The size itself takes a byte, and no cell takes fewer than four.
        self.ends = [
            start + size + 1 if size > 2 else start + _SMALLEST_CELL  # noqa: PLR2004 - see above
            for start, size in zip(self.starts, sizes)  # noqa: B905 - Python 3.9 knows no strict
        ]
        return True

    def _take_payloads(self) -> None:
        data, form = self.data, self.form
        most = form.most_in_table if self.table else form.most_in_index
        for start in self.starts:
            payload, at = self._payload(start)
            if self.table:
                rowid, at = _varint(data, at)
                self.keys.append(_signed(rowid))
            if payload <= most:
                self.ends.append(max(at + payload, start + _SMALLEST_CELL))
                continue
            local = form.local(payload, most)
            (first,) = _CHILD.unpack_from(data, at + local)
            self.chains.append(Chain(first, -(-(payload - local) // (form.usable - 4))))
            self.ends.append(at + local + 4)

    def _payload(self, start: int) -> tuple[int, int]:
        """Return the size of a cell's payload and where what follows it lies."""
        at = start if self.leaf else start + 4
        payload, end = _varint(self.data, at)
        # SQLite writes none that is longer, and reads the longest in another way.
        if end > at + _LONGEST_SIZE:
            raise self._doubt("has a payload of a size that is written too long")
        return payload, end

    def _check_coverage(self) -> None:
        """Every byte from the start of the content is a cell's, a freeblock's or a fragment."""
        if not self._head_end <= self._content <= self.form.usable:
            raise self._doubt("has its content in the wrong place")
        free = list(self._freeblocks())
        # Sorted apart: spans that do not overlap begin in the order in which they end.
        starts = sorted([*self.starts, *(start for start, _ in free)])
        ends = sorted([*self.ends, *(end for _, end in free)])
        if starts and (starts[0] < self._content or ends[-1] > self.form.usable):
            raise self._doubt("has a cell outside of its content")
        if not all(map(le, ends, starts[1:])):
            raise self._doubt("has cells that overlap")
        if self.form.usable - self._content - sum(ends) + sum(starts) != self._fragments:
            raise self._doubt("does not account for all its bytes")

    def _freeblocks(self) -> Iterator[tuple[int, int]]:
        at = self._freeblock
        while at:
            following, size = _FREEBLOCK.unpack_from(self.data, at)
            if size < _SMALLEST_CELL or 0 < following < at + size + _SMALLEST_CELL:
                raise self._doubt("has freeblocks out of order")
            yield at, at + size
            at = following

    def _check_keys(self, place: Place) -> None:
        keys = self.keys
        if not all(map(lt, keys, keys[1:])):
            raise self._doubt("has rowids out of order")
        if keys and not (place.low < keys[0] and keys[-1] <= place.high):
            raise self._doubt("has rowids that belong to another page")

    def _check_record(self, start: int) -> None:
        form, data = self.form, self.data
        payload, at = self._payload(start)
        if self.table:
            at = _varint(data, at)[1]
        begin = at
        size, at = _varint(data, at)
        local = form.local(payload, form.most_in_table if self.table else form.most_in_index)
        if size > local:
            raise self._doubt("has a record whose head is long")
        content = 0
        while at < begin + size:
            serial, at = _varint(data, at)
            few = len(_SERIAL_SIZES)
            content += _SERIAL_SIZES[serial] if serial < few else (serial - few) // 2
        if size < _SMALLEST_HEAD or at != begin + size or size + content != payload:
            raise self._doubt("has a record that cannot be read")

    def _doubt(self, what: str) -> DoubtError:
        return DoubtError(f"page {self.number} {what}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a variable-length integer; return it and where it ends."""
    value = data[at]
    if value < _CONTINUES:
        return value, at + 1
    value &= 0x7F
    for place in range(at + 1, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < _CONTINUES:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
