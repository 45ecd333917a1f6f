"""Ways to damage a database: the lies that its pages can tell, one function each, and noise."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from gymdbd.sqlite.btree import DoubtError, Form, Page

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_RESERVED, _COUNT, _FIRST_TRUNK, _FREE_COUNT = 20, 28, 32, 36


class Mutant:
    """The bytes of a database that is to be damaged, at the `pages` that changed mostly."""

    def __init__(self, data: bytes, page_size: int, pages: set[int], rng: random.Random) -> None:
        self.data = bytearray(data)
        self.size = page_size
        self.form = Form(page_size, data[_RESERVED])
        self.count = len(data) // page_size
        self.pages = sorted(one for one in pages if 1 < one <= self.count)
        self.rng = rng

    def at(self, number: int) -> int:
        """Return where a page begins."""
        return (number - 1) * self.size

    def page(self, number: int) -> bytes:
        """Return a page."""
        return bytes(self.data[self.at(number) : self.at(number) + self.size])

    def any_page(self) -> int:
        """Choose a page that changed, now and then another one."""
        if self.pages and self.rng.random() < 0.9:
            return self.rng.choice(self.pages)
        return self.rng.randint(2, max(2, self.count))

    def node(self, *, wanted: Callable[[Page], object] = lambda page: page.starts) -> Page | None:
        """Choose a page that can be taken for one of a tree's, and of which `wanted` is true."""
        for _ in range(20):
            number = self.any_page()
            try:
                page = Page(self.page(number), number, self.form)
            except (DoubtError, struct.error, IndexError):
                continue
            if wanted(page):
                return page
        return None

    def number(self, offset: int, size: int = 4) -> int:
        """Read a number."""
        return int.from_bytes(self.data[offset : offset + size], "big")

    def put(self, offset: int, value: int, size: int = 4) -> None:
        """Write a number, modulo what fits."""
        self.data[offset : offset + size] = (value % 256**size).to_bytes(size, "big")

    def child_slots(self, page: Page) -> list[int]:
        """Return where in the file the children of an interior page are written."""
        start = self.at(page.number)
        return [*(start + one for one in page.starts), start + 8]

    def chain_slots(self, page: Page) -> list[int]:
        """Return where in the file the overflow chains of a page begin."""
        start = self.at(page.number)
        firsts = {one.first for one in page.chains}
        ends = (start + end - 4 for end in page.ends)
        return [slot for slot in ends if self.number(slot) in firsts]

    def pointer_slots(self, page: Page) -> list[int]:
        """Return where in the file the cell pointers of a page are written."""
        start = self.at(page.number) + (8 if page.leaf else 12)
        return [start + 2 * index for index in range(len(page.starts))]


def _interior(page: Page) -> bool:
    return not page.leaf


def _swap(mutant: Mutant, one: int, two: int, size: int) -> None:
    first, second = mutant.number(one, size), mutant.number(two, size)
    mutant.put(one, second, size)
    mutant.put(two, first, size)


def swap_children(mutant: Mutant) -> None:
    """Let two children of one page or of two pages change places."""
    one, two = mutant.node(wanted=_interior), mutant.node(wanted=_interior)
    if one and two:
        two = mutant.rng.choice([one, two])
        slots = mutant.child_slots(one), mutant.child_slots(two)
        _swap(mutant, mutant.rng.choice(slots[0]), mutant.rng.choice(slots[1]), 4)


def copy_child(mutant: Mutant) -> None:
    """Let two cells have one child."""
    page = mutant.node(wanted=_interior)
    if page:
        one, two = (mutant.rng.choice(mutant.child_slots(page)) for _ in range(2))
        mutant.put(one, mutant.number(two))


def change_child(mutant: Mutant) -> None:
    """Give a cell another child: any page, one of another tree, one that is not there."""
    page = mutant.node(wanted=_interior)
    if page:
        child = mutant.rng.choice([0, 1, 2, mutant.any_page(), mutant.count, mutant.count + 1])
        mutant.put(mutant.rng.choice(mutant.child_slots(page)), child)


def drop_cell(mutant: Mutant) -> None:
    """Take a cell away, leaving its bytes as a fragment that is accounted for, or not."""
    page = mutant.node()
    if page:
        start, slots = mutant.at(page.number), mutant.pointer_slots(page)
        index = mutant.rng.randrange(len(slots))
        offsets = [*page.starts[:index], *page.starts[index + 1 :], 0]
        for slot, offset in zip(slots, offsets, strict=True):
            mutant.put(slot, offset, 2)
        mutant.put(start + 3, len(slots) - 1, 2)
        if mutant.rng.random() < 0.8:
            size = page.ends[index] - page.starts[index]
            mutant.put(start + 7, mutant.data[start + 7] + size, 1)


def change_cell_count(mutant: Mutant) -> None:
    """Have a page claim more or fewer cells than it has, or none."""
    page = mutant.node(wanted=lambda _: True)
    if page:
        count = mutant.rng.choice([0, len(page.starts) - 1, len(page.starts) + 1, 65535])
        mutant.put(mutant.at(page.number) + 3, count, 2)


def overlap_cells(mutant: Mutant) -> None:
    """Let two cells share bytes."""
    page = mutant.node()
    if page:
        slots = mutant.pointer_slots(page)
        offset = mutant.rng.choice(page.starts) + mutant.rng.choice([-4, -1, 0, 0, 1, 4])
        mutant.put(mutant.rng.choice(slots), offset, 2)


def swap_cells(mutant: Mutant) -> None:
    """Let two cells change places, and with them their rowids."""
    page = mutant.node()
    if page:
        slots = mutant.pointer_slots(page)
        _swap(mutant, mutant.rng.choice(slots), mutant.rng.choice(slots), 2)


def change_cell(mutant: Mutant) -> None:
    """Change the first bytes of a cell: its payload's size, its rowid, its child."""
    page = mutant.node()
    if page:
        offset = mutant.at(page.number) + mutant.rng.choice(page.starts) + mutant.rng.randrange(9)
        if offset < len(mutant.data):
            change = mutant.rng.choice([1, 255, 128, 127])
            mutant.put(offset, mutant.data[offset] + change, 1)


def change_page_header(mutant: Mutant) -> None:
    """Change one field of a page's header: type, freeblock, start of the content, fragments."""
    page = mutant.node(wanted=lambda _: True)
    if page:
        at, size = mutant.rng.choice([(0, 1), (1, 2), (5, 2), (7, 1)])
        offset = mutant.at(page.number) + at
        value = mutant.number(offset, size) + mutant.rng.choice([-4, -1, 1, 4, 8, -3])
        mutant.put(offset, mutant.rng.choice([value, value, 0, 2, 5, 10, 13, mutant.size]), size)


def change_freeblock(mutant: Mutant) -> None:
    """Change where the next freeblock is said to lie, or how large the first one is."""
    page = mutant.node(wanted=lambda page: mutant.number(mutant.at(page.number) + 1, 2))
    if page:
        start = mutant.at(page.number)
        offset = start + mutant.number(start + 1, 2) + mutant.rng.choice([0, 2])
        value = mutant.number(offset, 2) + mutant.rng.choice([-4, -1, 1, 4])
        mutant.put(offset, mutant.rng.choice([value, 0, 3, 65535]), 2)


def change_chain(mutant: Mutant) -> None:
    """Let an overflow chain end early, go on, or go elsewhere, at its beginning or later."""
    page = mutant.node(wanted=lambda page: page.chains)
    if page:
        slot = mutant.rng.choice(mutant.chain_slots(page))
        for _ in range(mutant.rng.randrange(4)):
            following = mutant.number(slot)
            if not 1 < following <= mutant.count:
                break
            slot = mutant.at(following)
        value = mutant.rng.choice([0, 1, mutant.any_page(), mutant.number(slot) + 1])
        mutant.put(slot, value)


def cross_chains(mutant: Mutant) -> None:
    """Let the chains of two payloads change places."""
    one, two = (mutant.node(wanted=lambda page: page.chains) for _ in range(2))
    if one and two:
        slots = mutant.chain_slots(one), mutant.chain_slots(two)
        _swap(mutant, mutant.rng.choice(slots[0]), mutant.rng.choice(slots[1]), 4)


def share_chain(mutant: Mutant) -> None:
    """Let two payloads have one chain."""
    one, two = (mutant.node(wanted=lambda page: page.chains) for _ in range(2))
    if one and two:
        slots = mutant.chain_slots(one), mutant.chain_slots(two)
        mutant.put(mutant.rng.choice(slots[0]), mutant.number(mutant.rng.choice(slots[1])))


def lie_in_the_freelist(mutant: Mutant) -> None:
    """Change what the freelist says: its length, a page, where it goes on."""
    trunk = mutant.number(_FIRST_TRUNK)
    where = mutant.rng.choice([_FREE_COUNT, _FIRST_TRUNK, None, None, None])
    if where is None and 1 < trunk <= mutant.count:
        leaves = mutant.number(mutant.at(trunk) + 4)
        where = mutant.at(trunk) + 4 * mutant.rng.randrange(min(leaves, 20) + 2)
    offset = where or _FREE_COUNT
    value = mutant.number(offset)
    choices = [0, 1, value + 1, value - 1, trunk, mutant.any_page(), mutant.count + 1]
    mutant.put(offset, mutant.rng.choice(choices))


def free_twice(mutant: Mutant) -> None:
    """List a page of the freelist twice, and count it twice."""
    trunk = mutant.number(_FIRST_TRUNK)
    if 1 < trunk <= mutant.count:
        start = mutant.at(trunk) + 4
        leaves = mutant.number(start)
        again = mutant.number(start + 4 * mutant.rng.randint(1, leaves)) if leaves else trunk
        mutant.put(start, leaves + 1)
        mutant.put(start + 4 * (leaves + 1), again)
        mutant.put(_FREE_COUNT, mutant.number(_FREE_COUNT) + 1)


def change_size(mutant: Mutant) -> None:
    """Lie about the number of pages, in the header or by a file that is longer or shorter."""
    count = mutant.count + mutant.rng.choice([-1, 1])
    kind = mutant.rng.randrange(3)
    if kind != 0:
        mutant.put(_COUNT, count)
    if kind != 1:
        mutant.data[count * mutant.size :] = b""
        mutant.data += bytes(count * mutant.size - len(mutant.data))


def swap_pages(mutant: Mutant) -> None:
    """Let two pages change places, or one be in the place of another too."""
    one, two = mutant.any_page(), mutant.any_page()
    if max(one, two) <= mutant.count:
        first, second = mutant.page(one), mutant.page(two)
        mutant.data[mutant.at(one) : mutant.at(one) + mutant.size] = second
        if mutant.rng.random() < 0.5:
            mutant.data[mutant.at(two) : mutant.at(two) + mutant.size] = first


def change_header(mutant: Mutant) -> None:
    """Change a byte of the database's header."""
    offset = mutant.rng.randrange(100)
    mutant.put(offset, mutant.data[offset] + mutant.rng.randrange(1, 256), 1)


def change_bytes(mutant: Mutant) -> None:
    """Overwrite some bytes of a page by noise, zeros or others of it."""
    start = mutant.at(mutant.any_page())
    length = min(mutant.rng.choice([1, 1, 1, 2, 4, 16, 200]), mutant.size)
    ends = (12, 60, mutant.size)
    offset = start + mutant.rng.randrange(max(1, mutant.rng.choice(ends) - length + 1))
    other = start + mutant.rng.randrange(mutant.size - length + 1)
    noise = [mutant.rng.randbytes(length), bytes(length), mutant.data[other : other + length]]
    if offset + length <= len(mutant.data):
        mutant.data[offset : offset + length] = mutant.rng.choice(noise)


LIES: list[Callable[[Mutant], None]] = [
    swap_children,
    copy_child,
    change_child,
    drop_cell,
    change_cell_count,
    overlap_cells,
    swap_cells,
    change_cell,
    change_page_header,
    change_freeblock,
    change_chain,
    cross_chains,
    share_chain,
    lie_in_the_freelist,
    free_twice,
    change_size,
    swap_pages,
    change_header,
    change_bytes,
]
