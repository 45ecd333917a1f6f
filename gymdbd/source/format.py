"""The facts of SQLite's files, each written once.

A section is one of https://www.sqlite.org/fileformat2.html, or of
https://www.sqlite.org/walformat.html if it says so. What `_HEADER` ends is for `struct`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Beside the database: the write-ahead log (section 4), its index (walformat, section 2) and the
# rollback journal (section 3).
WAL, INDEX, JOURNAL = SIDE_SUFFIXES = ("-wal", "-shm", "-journal")
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")

# The header of the database. Section 1.3.
HEADER_BYTES = 100
MAGIC = b"SQLite format 3\0"
PAGE_SIZES = [2**power for power in range(9, 17)]
MOST_PAGES = 2**32 - 2
# What a program must understand to write and to read it: in WAL mode it needs the WAL for both.
# Section 1.3.3.
VERSIONS = slice(18, 20)
WITHOUT_WAL, WITH_WAL = b"\1\1", b"\2\2"

# Bytes that are locked and never written, so that the page they are in holds nothing. Section 1.4.
LOCK_BYTE = 2**30
MAIN_LOCKS = range(LOCK_BYTE, LOCK_BYTE + 512)
PENDING_LOCK = range(LOCK_BYTE, LOCK_BYTE + 1)
SHARED_LOCK = range(LOCK_BYTE + 2, LOCK_BYTE + 512)

# The WAL: a header, then frames, each a header and a page. Section 4.1. A frame's fields are its
# page, the database's pages after a commit (else 0), the salts and two checksums.
WAL_MAGIC = (0x377F0682, 0x377F0683)
WAL_HEADER_BYTES = 32
WAL_SALTS = slice(16, 24)
FRAME_HEADER, FRAME_HEADER_BYTES = ">II8sII", 24

# The index of the WAL begins with two copies of a header, and how many frames were checkpointed.
# walformat, section 2.1. The fields are version, whether it is initialised, page size, frames,
# pages, the last frame's checksums, the salts, and two checksums of what is before them.
INDEX_VERSION = 3007000
INDEX_HEADER, INDEX_HEADER_BYTES = "=I8x?xHIIII8sII", 48
INDEX_FRAMES = slice(16, 20)
INDEX_SUMMED_BYTES = 40
INDEX_BACKFILLED = slice(96, 100)
INDEX_BYTES = 136

# The index consists of blocks, the first with that header: the pages of its frames, 32 bits each,
# then a hash table of 16-bit places among these, searched linearly. walformat, section 2.2.
INDEX_BLOCK_BYTES, INDEX_BLOCK_FRAMES = 32768, 4096
INDEX_HASH_SLOTS, INDEX_HASH_FACTOR = 8192, 383

# Locks on bytes of the index. walformat, section 2.3. The last is SQLite's own dead man's switch:
# who is connected to the index holds it.
INDEX_LOCKS = range(120, 129)
WRITE_LOCK = range(120, 121)
CHECKPOINT_LOCK = range(121, 122)
READ_LOCKS = range(123, 128)
INDEX_LOCK = range(128, 129)

# How the pages of a snapshot are read (`gymdbd.source.pages`).
PAGE_RULE = "page-rule"
MAIN_FILE = "main-file"
ONLINE_BACKUP = "online-backup"


def beside(path: Path, suffix: str) -> Path:
    """Return where SQLite keeps the side file of a database that has this suffix."""
    return path.with_name(path.name + suffix)


def side_files(path: Path) -> list[Path]:
    """Return where SQLite would keep the WAL, its index and the rollback journal of `path`."""
    return [beside(path, suffix) for suffix in SIDE_SUFFIXES]


def to_page_size(stored: int) -> int:
    """Read two bytes of a header: 65536 does not fit into them and is written as 1."""
    return (stored & 0xFE00) | (stored & 1) << 16


def frame_offset(frame: int, page_size: int) -> int:
    """Return where in the WAL the header of a frame lies; frames count from 1."""
    return WAL_HEADER_BYTES + (frame - 1) * (FRAME_HEADER_BYTES + page_size)
