"""The receiving side of a rebuild: one database arrives, is proven, and gets its name.

The frames are those of a pull (`gymdbd.source.protocol`); the client asks first::

    {op: "rebuild", size, replace, stamp, ownership}    what is to be put there
        -> RESULT, what would be done (`looking.look`); the client may close, and nothing was done
    PAGES*, END {sha256}                                the bytes of the file, in order
        -> RESULT {hashed}*, RESULT {sha256}            of what is on the disk now
    REQUEST {op: "publish"}
        -> RESULT, what was done (`placing.Place.publish`)

If the client is gone before it has asked for that, nothing is there. Instead of any answer the
server may send ERROR, and end.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Dict

from gymdbd.source import protocol
from gymdbd.source.errors import GymdbdError, PlaceError, ProtocolError
from gymdbd.source.patience import STALL_TIMEOUT_S
from gymdbd.source.protocol import Channel
from gymdbd.source.receiving.placing import Place
from gymdbd.source.server import report, streams

if TYPE_CHECKING:
    from pathlib import Path


def main(path: Path, *, stall_timeout_s: float = STALL_TIMEOUT_S) -> int:
    """Receive a database for `path` on standard input; return an exit code.

    A signal to end removes what has arrived.
    """
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    with streams(stall_timeout_s) as (reader, writer, patience):
        channel = Channel(reader, writer, patience.message)
        try:
            _receive(path, channel)
        except GymdbdError as error:
            return report(channel, error)
    return 0


def _receive(path: Path, channel: Channel) -> None:
    channel.send_preamble()
    channel.expect_client()
    asked = channel.receive_json(protocol.REQUEST)
    try:
        place = Place(
            path,
            int(asked["size"]),
            replace=asked["replace"] is True,
            stamp=str(asked["stamp"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the request to rebuild is invalid ({error!r})") from error
    try:
        _answer(channel, place.look())
        message = channel.receive_or_end(protocol.PAGES, protocol.END)
        if message is not None:
            place.begin()
            _fill(place, channel, message)
            request = channel.receive_or_end(protocol.REQUEST)
            if request is not None:
                _answer(channel, place.publish(asked.get("ownership")))
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise PlaceError(
            f"{where}: {error.strerror}",
            hint="look at the disk and the folder over there, and run this again",
        ) from error
    finally:
        place.close()


def _fill(place: Place, channel: Channel, message: protocol.Message) -> None:
    """Write what arrives, and read it back from the disk."""
    kind, payload = message
    while kind == protocol.PAGES:
        place.write(payload)
        kind, payload = channel.receive(protocol.PAGES, protocol.END)
    sent = protocol.parse_json(payload).get("sha256")
    for found in place.digests():
        if isinstance(found, int):
            _answer(channel, {"hashed": found})
        elif found != sent:
            raise PlaceError(
                f"what is on the disk of {place.path.parent} is not what was sent",
                hint="look at the disk over there (dmesg, SMART): the card may be failing; what "
                "arrived was removed",
            )
        else:
            _answer(channel, {"sha256": found})


def _answer(channel: Channel, value: Dict[str, Any]) -> None:
    channel.send_json(protocol.RESULT, value)
    channel.flush()
