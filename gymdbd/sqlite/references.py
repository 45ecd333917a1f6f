"""What the pages of one database file refer to: as children, as overflow pages, as free ones.

Format: https://www.sqlite.org/fileformat2.html sections 1.3 (the header), 1.5 (the freelist) and
1.7 (overflow pages).
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from itertools import chain
from typing import BinaryIO, Collection

from gymdbd.sqlite import btree
from gymdbd.sqlite.btree import Chain, DoubtError, Form, Page, Place

HEADER_SIZE = 100

_PAGE_SIZE = slice(16, 18)
_RESERVED = 20
_COUNT, _FIRST_TRUNK, _FREE_COUNT = 28, 32, 36
_NUMBER = struct.Struct(">I")
_TRUNK = struct.Struct(">II")
_DEEPEST = 20


class References:
    """An open database file, and what those of its pages that were looked at refer to.

    `found` are the places of pages to which a walk from the root led, `children` those of all
    that the pages looked at are parents of. `chains` are the overflow chains of the pages looked
    at, `overflow` the pages of those that were followed, and `rows` counts for each tree the
    entries in the pages looked at. What is not as it has to be raises DoubtError, struct.error,
    IndexError or OSError.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file.fileno()
        self.header = os.pread(self._file, HEADER_SIZE, 0).ljust(HEADER_SIZE, b"\0")
        size = int.from_bytes(self.header[_PAGE_SIZE], "big")
        # 65536 does not fit into two bytes and is written as 1.
        self.page_size = 65536 if size == 1 else size
        self.count = self._number(_COUNT)
        self.form = Form(self.page_size, self.header[_RESERVED])
        self.found: dict[int, Place] = {}
        self.children: dict[int, Place] = {}
        self.looked: set[int] = set()
        self.chains: Counter[Chain] = Counter()
        self.overflow: set[int] = set()
        self.free: set[int] = set()
        self.rows: Counter[int] = Counter()

    def check_size(self) -> None:
        """Raise DoubtError unless the header knows how long the file is."""
        if os.fstat(self._file).st_size != self.count * self.page_size or not self.count:
            raise DoubtError("the size of the file is not what the header says")

    def _number(self, offset: int) -> int:
        return int(_NUMBER.unpack_from(self.header, offset)[0])

    def read(self, number: int, size: int | None = None) -> bytes:
        """Return a page, or the first `size` bytes of it."""
        wanted = size or self.page_size
        if not 1 <= number <= self.count:
            raise DoubtError(f"there is no page {number}")
        data = os.pread(self._file, wanted, (number - 1) * self.page_size)
        if len(data) < wanted:
            raise DoubtError(f"page {number} is cut short")
        return data

    def read_freelist(self) -> None:
        """Find the free pages."""
        trunk, total, listed = self._number(_FIRST_TRUNK), self._number(_FREE_COUNT), 0
        while trunk:
            data = self.read(trunk)
            following, count = _TRUNK.unpack_from(data)
            listed += 1 + count
            if listed > total or count > self.form.usable // 4 - 2:
                raise DoubtError("the freelist is longer than it says")
            self.free.add(trunk)
            self.free.update(struct.unpack_from(f">{count}I", data, _TRUNK.size))
            trunk = following
        if not listed == total == len(self.free):
            raise DoubtError("the freelist is not what the header says")

    def height(self, root: int) -> int:
        """Return how many levels a tree has above its leaves."""
        number = root
        for height in range(_DEEPEST):
            data = self.read(number)
            if btree.is_leaf(data, number):
                return height
            ((number,), *_) = btree.children(data, number)[1]
        raise DoubtError(f"the tree at page {root} is too deep")

    def place(self, number: int) -> Place | None:
        """Return where in the trees a page stands, if that is known."""
        return self.found.get(number) or self.children.get(number)

    def look_at(self, number: int, place: Place) -> Page:
        """Take a page of a tree apart, and note what it refers to."""
        page = Page(self.read(number), number, self.form)
        self.looked.add(number)
        self.rows[place.tree] += page.rows
        self.chains.update(page.chains)
        for child, below in page.places(place):
            if child in self.children:
                raise DoubtError(f"page {child} has two parents")
            self.children[child] = below
        return page

    def follow(self, one: Chain) -> None:
        """Find the pages of an overflow chain."""
        number = one.first
        for _ in range(one.length):
            if number in self.overflow:
                raise DoubtError(f"page {number} is in two overflow chains")
            self.overflow.add(number)
            number = self.first_number(number)
        if number:
            raise DoubtError(f"the overflow chain from page {one.first} is too long")

    def first_number(self, number: int) -> int:
        """Return the first four bytes of a page: of an overflow page, the next one or 0."""
        return int(_NUMBER.unpack(self.read(number, _NUMBER.size))[0])

    def used(self, roots: Collection[int]) -> set[int]:
        """Return all pages that were found to be referred to, `roots` included."""
        parts = (self.children, self.overflow, self.free, roots)
        used = set(chain.from_iterable(parts))
        if len(used) < sum(map(len, parts)):
            raise DoubtError("a page is used twice")
        return used

    def unexplained(self, numbers: Collection[int]) -> set[int]:
        """Return those of the pages to which nothing was found to refer."""
        places = (self.found, self.children, self.overflow, self.free)
        return {one for one in numbers if one <= self.count}.difference(*places)
