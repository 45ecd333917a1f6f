"""A cable that is slow, long or bad: forwards Ethernet frames between two interfaces.

`wire.py ONE OTHER` reads lines of "DELAY_MS LOSS RATE_KBIT" from standard input and ends with it;
a loss of 1 is a cable that was cut without anybody being told. `wire.py plain INTERFACE` switches
off what lets an interface hand out segments that no cable could carry.
"""

from __future__ import annotations

import array
import fcntl
import heapq
import random
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

_ANY_PROTOCOL = 0x0003
_ETHTOOL = 0x8946
# ETHTOOL_STXCSUM, STSO, SGSO, SGRO: checksums left open, and segments above the cable's size.
_OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
_LONGEST_QUEUE_S = 0.3
_FRAME = 65535


@dataclass
class Direction:
    """One direction of the cable: what is on its way, and when the line is free again."""

    target: socket.socket
    free_at: float = 0.0
    queue: list[tuple[float, int, bytes]] = field(default_factory=list)
    count: int = 0

    def accept(self, frame: bytes, now: float, *, delay_s: float, rate_bytes: float) -> None:
        """Send the frame on its way, or drop it where too many wait already, as a router does."""
        begin = max(now, self.free_at)
        if begin - now > _LONGEST_QUEUE_S:
            return
        self.free_at = begin + (len(frame) / rate_bytes if rate_bytes else 0.0)
        self.count += 1
        heapq.heappush(self.queue, (self.free_at + delay_s, self.count, frame))

    def deliver(self, now: float) -> None:
        """Hand out what has arrived."""
        while self.queue and self.queue[0][0] <= now:
            self.target.send(heapq.heappop(self.queue)[2])


def _open(name: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ANY_PROTOCOL))
    end.bind((name, 0))
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024**2)
    return end


def forward(one: str, other: str) -> None:
    """Be the cable until standard input ends."""
    delay_s, loss, rate_bytes = 0.0, 0.0, 0.0
    ends = [_open(one), _open(other)]
    directions = {ends[0]: Direction(ends[1]), ends[1]: Direction(ends[0])}
    selector = selectors.DefaultSelector()
    for end in ends:
        selector.register(end, selectors.EVENT_READ, directions[end])
    selector.register(sys.stdin, selectors.EVENT_READ)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        due = [way.queue[0][0] for way in directions.values() if way.queue]
        wait_s = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in selector.select(wait_s):
            if key.data is None:
                if not (line := sys.stdin.readline()):
                    return
                delay_ms, loss, rate_kbit = map(float, line.split())
                delay_s, rate_bytes = delay_ms / 1000, rate_kbit * 125
                continue
            assert isinstance(key.fileobj, socket.socket)
            frame, address = key.fileobj.recvfrom(_FRAME)
            # Our own frames, which the kernel shows us as well, are not to go round.
            if address[2] != socket.PACKET_OUTGOING and random.random() >= loss:
                key.data.accept(frame, time.monotonic(), delay_s=delay_s, rate_bytes=rate_bytes)
        for way in directions.values():
            way.deliver(time.monotonic())


def make_plain(name: str) -> None:
    """Let an interface hand out finished frames only."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for offload in _OFFLOADS:
            value = array.array("B", struct.pack("II", offload, 0))
            request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
            fcntl.ioctl(control, _ETHTOOL, request)


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        make_plain(sys.argv[2])
    else:
        forward(sys.argv[1], sys.argv[2])
