"""The serving side of a pull: one database, read-only, one snapshot, and then the end.

Runs on the standard library of Python 3.9 in a process of its own, writes nothing anywhere, and
needs the same memory for any size of database. `gymdbd.source.protocol` defines the protocol,
`gymdbd.source.replies` has the answers.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Tuple

from gymdbd.source import identity, protocol
from gymdbd.source.errors import (
    GymdbdError,
    RemoteError,
    StalledError,
)
from gymdbd.source.pages import open_pages
from gymdbd.source.patience import STALL_TIMEOUT_S, Patience, PatientStream
from gymdbd.source.protocol import Channel
from gymdbd.source.replies import Replies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gymdbd.source.replies import Terms


MAX_SNAPSHOT_S = 30 * 60.0


def serve(
    path: Path,
    reader: protocol.Reader,
    writer: protocol.Writer,
    *,
    patience: Patience | None = None,
    max_snapshot_s: float = MAX_SNAPSHOT_S,
    terms: Terms | None = None,
) -> int:
    """Answer one client about the database at `path` until it closes; return an exit code.

    Whatever goes wrong reaches the client as an ERROR frame.
    """
    channel = Channel(reader, writer, *([patience.message] if patience else []))
    try:
        channel.send_preamble()
        if terms:
            terms.enter()
        channel.expect_client()
        identity.require(path)
        with open_pages(path) as pages:
            if not pages.snapshot.is_in_turns:
                pages.snapshot.ends_at = time.monotonic() + max_snapshot_s
                if patience:
                    patience.hold(max_snapshot_s, pages.snapshot.let_go)
            if terms:
                terms.begin(pages)
            Replies(channel, pages, terms).run()
    except GymdbdError as error:
        return report(channel, terms.word(error) if terms else error)
    except Exception as error:  # noqa: BLE001 - the client is to be told, whatever it is
        said = error.strerror if isinstance(error, OSError) else error
        return report(channel, RemoteError(f"the serving side failed: {said!r}"))
    finally:
        if terms:
            terms.leave()
    return 0


def report(channel: Channel, error: GymdbdError) -> int:
    """Tell the client of an error, and return its exit code."""
    # If the client has gone, nobody receives the error.
    with contextlib.suppress(GymdbdError, OSError):
        channel.send_error(error)
        channel.flush()
    return error.exit_code


def main(
    path: Path,
    *,
    stall_timeout_s: float = STALL_TIMEOUT_S,
    max_snapshot_s: float = MAX_SNAPSHOT_S,
    terms: Terms | None = None,
) -> int:
    """Serve the database at `path` on standard input and output."""
    with streams(stall_timeout_s) as (reader, writer, patience):
        return serve(
            path, reader, writer, patience=patience, max_snapshot_s=max_snapshot_s, terms=terms
        )


@contextlib.contextmanager
def streams(stall_timeout_s: float) -> Iterator[Tuple[PatientStream, PatientStream, Patience]]:
    """Yield standard input and output, and the patience with the client at their other end.

    Standard output belongs to the protocol: anything else that prints goes to standard error.
    """
    patience = Patience(stall_timeout_s)
    writer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        yield PatientStream(sys.stdin.buffer, patience), PatientStream(writer, patience), patience
    finally:
        # A client that has gone will not read the rest.
        with contextlib.suppress(StalledError, OSError):
            patience.wait(writer.close)
