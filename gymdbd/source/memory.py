"""Keeping the memory of one batch of pages for the next one."""

from __future__ import annotations

import contextlib
import functools

# mallopt(3): by default what is this large is a map of its own, and the top of a heap is given
# back; both are the kernel's work, page by page, for each batch again.
_OPTIONS = {
    -3: 32 * 2**20,  # M_MMAP_THRESHOLD, at most this
    -1: 64 * 2**20,  # M_TRIM_THRESHOLD
    -2: 4 * 2**20,  # M_TOP_PAD
}


@functools.cache
def keep_freed() -> None:
    """Let glibc keep what this process frees; elsewhere do nothing.

    A process that moves gigabytes in batches of some 100 KiB spent a fifth of its time on asking
    for the same memory again. It holds a few MiB more than it uses at a time.
    """
    # ctypes alone fails under systemd's MemoryDenyWriteExecute.
    with contextlib.suppress(ImportError, OSError, MemoryError, AttributeError):
        import ctypes  # noqa: PLC0415

        mallopt = ctypes.CDLL(None).mallopt
        for option, value in _OPTIONS.items():
            mallopt(option, value)
