"""Counting rows in turns, between which an application without a WAL may write."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Dict, Optional

from gymdbd.source.counting import LEAST_NUMBER, MOST_NUMBER, PART_ROWS, count_part, count_rows
from gymdbd.source.schema import table_names
from gymdbd.source.snapshot import TURN_S

if TYPE_CHECKING:
    from gymdbd.source.snapshot import Snapshot


def count_in_turns(snapshot: Snapshot, turn_s: float = TURN_S) -> Dict[str, int]:
    """Do as `Snapshot.count_rows`, a large table in several turns.

    A table whose rows have no number of SQLite's is omitted if it takes longer than a turn.
    """
    counts: Dict[str, int] = {}
    for name in table_names(snapshot.facts):
        found = _count_by_parts(snapshot, name, turn_s)
        counts |= _count_at_once(snapshot, name, turn_s) if found is None else {name: found}
    return counts


def _count_by_parts(snapshot: Snapshot, name: str, turn_s: float) -> Optional[int]:
    rows, first = 0, LEAST_NUMBER
    while True:
        with snapshot.turn(turn_s) as end:
            is_over = False
            while not is_over:
                part = count_part(snapshot.connection, name, first)
                if part is None:
                    return None
                rows += part[0]
                if part[0] < PART_ROWS or part[1] == MOST_NUMBER:
                    return rows
                first = part[1] + 1
                is_over = time.monotonic() >= end


def _count_at_once(snapshot: Snapshot, name: str, turn_s: float) -> Dict[str, int]:
    connection = snapshot.connection
    with snapshot.turn(turn_s) as end:
        # Counting is one step for SQLite, so that no progress handler can end it.
        alarm = threading.Timer(turn_s, connection.interrupt)
        alarm.start()
        try:
            return count_rows(connection, snapshot.facts, [name])
        except sqlite3.OperationalError:
            if time.monotonic() < end:
                raise
            return {}
        finally:
            alarm.cancel()
            alarm.join()
