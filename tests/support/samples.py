"""How much is tried: everything with `tests/run --all`, otherwise a sample that a seed chooses.

A test that takes less on a push says so in one line, with both numbers: `count(30, of=200)`.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

Item = TypeVar("Item")

EVERYTHING = os.environ.get("GYMDBD_TESTS") == "all"
# In the environment, so that all processes of one test run take the same sample.
SEED = int(os.environ.setdefault("GYMDBD_TESTS_SEED", str(random.SystemRandom().randrange(10**6))))
DESCRIPTION = "everything" if EVERYTHING else f"a sample, tests/run --seed {SEED}"


def count(few: int, *, of: int) -> int:
    """Return `few` on a push, and `of` when everything is tried."""
    return of if EVERYTHING else few


def sample(items: Iterable[Item], what: str, size: int = 1) -> list[Item]:
    """Return all items when everything is tried, otherwise `size` of them, in their order.

    `what` is a name for these items: each name has a sample of its own.
    """
    every = list(items)
    if EVERYTHING or len(every) <= size:
        return every
    chosen = random.Random(f"{SEED} {what}").sample(range(len(every)), size)
    return [every[place] for place in sorted(chosen)]
