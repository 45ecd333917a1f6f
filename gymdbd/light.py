"""What makes a short run short: importing what is used only, and ending at once."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def without(absent: str, package: str) -> Iterator[None]:
    """Import `package` as on a machine without `absent`, unless one of them is there already.

    A release of it that cannot do without is imported as it wants to be.
    """
    modules: dict[str, Any] = sys.modules
    if absent not in modules and package not in modules:
        modules[absent] = None
        try:
            importlib.import_module(package)
        except ImportError:
            for name in [one for one in modules if one.partition(".")[0] == package]:
                del modules[name]
        finally:
            del modules[absent]
    yield


def end_at_once() -> None:
    """Let Python not look for cycles in all that was imported before this process ends.

    It would take an eighth of a pull that finds nothing new, for memory that the system takes back
    anyway. What is registered with `atexit` runs as ever.
    """
    atexit.register(gc.freeze)
