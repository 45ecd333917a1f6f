"""What a figure was measured on, in one line."""

from __future__ import annotations

import os
import platform
import sqlite3
from pathlib import Path


def describe(folder: Path) -> str:
    """Name processor, cores, memory, kernel, Python, SQLite and the file system of `folder`."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; "
        f"{platform.system()} {platform.release()}, {_file_system(folder)}; "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the file system that is mounted nearest above `folder`."""
    table = Path("/proc/self/mounts")
    if not table.exists():
        return "file system unknown"
    mounts = {line.split()[1]: line.split()[2] for line in table.read_text().splitlines()}
    above = [str(one) for one in (folder.resolve(), *folder.resolve().parents)]
    return next((mounts[place] for place in above if place in mounts), "file system unknown")
