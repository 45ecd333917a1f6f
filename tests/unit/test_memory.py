"""Memory that is kept for the next batch, where the system's allocator can be told to."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from gymdbd.source import memory
from tests.support.command import ROOT, environment

# In a thread, as the serving side packs: its heap is another one than the main thread's.
_SCRIPT = """
import resource, sys, threading
from gymdbd.source import memory

def work():
    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(200):
            batch = [bytearray(b"x") * 300_000 for _ in range(3)]
            del batch
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(faults())
    memory.keep_freed()
    faults()
    print(faults())

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_what_is_freed_is_there_for_the_next_batch() -> None:
    """Without it the kernel hands out the same pages again and again."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert before > 1000
    assert after < before / 10


@pytest.mark.parametrize("error", [MemoryError, OSError, AttributeError])
def test_where_it_cannot_be_told_all_goes_on(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Another library, or a service that may not call one."""

    def refuse(*_: object) -> None:
        raise error

    memory.keep_freed.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    memory.keep_freed()
    memory.keep_freed.cache_clear()
