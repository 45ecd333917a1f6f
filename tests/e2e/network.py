"""The office: the Pi and the Mac, each in a network namespace, and the lines between them.

Nothing here has a name outside of these namespaces, and each lives as long as one process that
the kernel ends with the tests: whatever happens to them, nothing is left behind.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.command import ROOT, environment
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

# The direct line, at the speed of the machine, and the one that the wire can spoil.
PI_NEAR, MAC_NEAR = "10.77.0.1", "10.77.0.2"
PI_FAR, MAC_FAR = "10.77.1.1", "10.77.1.2"

WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]


@dataclass(frozen=True)
class Place:
    """A network namespace, kept by a process."""

    keeper: int

    @property
    def path(self) -> Path:
        """Return what names it to other programs."""
        return Path(f"/proc/{self.keeper}/ns/net")

    @property
    def prefix(self) -> list[str]:
        """Return the words in front of a command that is to run there."""
        return ["nsenter", "--target", str(self.keeper), "--net", "--"]

    def run(self, *command: str) -> None:
        """Run a command there that must not fail."""
        done = subprocess.run(
            [*self.prefix, *command], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"


@dataclass(frozen=True)
class Office:
    """The two places, and the wire between them."""

    pi: Place
    mac: Place
    between: Place

    def cut(self) -> None:
        """Take the direct line down, as if somebody pulled the plug."""
        self.mac.run("ip", "link", "set", "near", "down")

    def heal(self) -> None:
        """Put the plug in again."""
        self.mac.run("ip", "link", "set", "near", "up")


@dataclass(frozen=True)
class Wire:
    """The far line while something is wrong with it; see wire.py."""

    process: subprocess.Popen[str]

    def change(self, *, delay_ms: float = 0, loss: float = 0, rate_kbit: float = 0) -> None:
        """From now on delay, lose and slow down what passes, in both directions."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{delay_ms} {loss} {rate_kbit}\n")
        self.process.stdin.flush()


@contextlib.contextmanager
def _place() -> Iterator[Place]:
    command = [*WITH_US, "unshare", "--net", "sleep", "infinity"]
    with subprocess.Popen(command) as process:
        try:
            ours = Path("/proc/self/ns/net").readlink()
            theirs = Path(f"/proc/{process.pid}/ns/net")
            until(lambda: theirs.readlink() != ours, "a network namespace")
            place = Place(process.pid)
            place.run("ip", "link", "set", "lo", "up")
            yield place
        finally:
            process.kill()


@contextlib.contextmanager
def office() -> Iterator[Office]:
    """Make the places and the lines."""
    with _place() as pi, _place() as mac, _place() as between:
        _line(mac, "near", pi, "near")
        _line(mac, "far", between, "mac")
        _line(pi, "far", between, "pi")
        for place, name, address in (
            (pi, "near", PI_NEAR),
            (mac, "near", MAC_NEAR),
            (pi, "far", PI_FAR),
            (mac, "far", MAC_FAR),
        ):
            place.run("ip", "address", "add", f"{address}/24", "dev", name)
        for place in (pi, mac):
            # What the wire is handed must be frames as they would be on a cable.
            place.run(sys.executable, str(ROOT / "tests/e2e/wire.py"), "plain", "far")
        yield Office(pi, mac, between)


def _line(one: Place, name: str, other: Place, other_name: str) -> None:
    peer = ["peer", "name", other_name, "netns", str(other.keeper)]
    one.run("ip", "link", "add", name, "type", "veth", *peer)
    one.run("ip", "link", "set", name, "up")
    other.run("ip", "link", "set", other_name, "up")


@contextlib.contextmanager
def wire(place: Office) -> Iterator[Wire]:
    """Connect the two ends of the far line."""
    with subprocess.Popen(
        [*place.between.prefix, *WITH_US, sys.executable, "-m", "tests.e2e.wire", "mac", "pi"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Wire(process)
        process.communicate(timeout=30)
