"""A Pi that is booted for real: systemd, journald, dbus and sshd, in a container of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tests.e2e.network import WITH_US
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.network import Place

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GROUPS = Path("/sys/fs/cgroup")
# One hierarchy where cgroups are of version 2 only, two of them where systemd runs on both.
_ROOTS = ("", "systemd", "unified")
_HOMES = {"root": "/root", "pi": "/home/pi"}
# The mount and the processes live in namespaces of the container's own: with the first process of
# these, which the kernel ends with the tests, everything is gone.
# Its control groups are its own too: two systemds in one would end each other's services.
_BOOT = """
for root in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -e "$root/cgroup.procs" ]; then
        mkdir -p "$root/$3"
        echo 0 >"$root/$3/cgroup.procs"
    fi
done
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
systemd-nspawn --quiet --boot --register=no --keep-unit --console=pipe --link-journal=no \\
    --kill-signal=SIGKILL --resolv-conf=off --timezone=off --hostname=raspberry-pi \\
    --machine="$3" --directory="$2/root" --network-namespace-path="$4"
"""
_ALONE = ["unshare", "--pid", "--mount-proc", "--propagation=private", "--fork", "--kill-child"]
# As the kernel numbers it here, in the namespace of _ALONE, and in that of the container.
_NUMBERS = 3


@dataclass
class Guest:
    """A machine whose disk is the layers of `lower` with a layer of its own in `folder` on top."""

    lower: tuple[Path, ...]
    folder: Path
    place: Place
    process: subprocess.Popen[bytes] | None = None
    leader: int = 0
    console: IO[bytes] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Give it an empty layer."""
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir()

    @property
    def name(self) -> str:
        """Return what it is called on this machine, where other tests may run."""
        return f"gde2e-{os.getpid()}-{self.folder.name}"

    @property
    def upper(self) -> Path:
        """Return the layer with all that this machine wrote."""
        return self.folder / "upper"

    @property
    def is_on(self) -> bool:
        """Say whether it runs."""
        return self.leader != 0

    def path(self, path: str | Path) -> Path:
        """Return where a file of the machine is seen from outside, while it is on."""
        return Path(f"/proc/{self.leader}/root") / str(path).lstrip("/")

    def boot(self) -> None:
        """Switch it on, and wait until the system is up."""
        self.switch_on()
        self.await_boot()

    def switch_on(self) -> None:
        """Switch it on, and wait only for its first process."""
        lower = ":".join(str(layer) for layer in self.lower)
        self.console = (self.folder / "console.log").open("ab")
        # Handed over open: in there the keeper of the place has no number.
        with self.place.path.open() as network:
            place = f"/proc/self/fd/{network.fileno()}"
            words = [*_ALONE, "sh", "-c", _BOOT, "boot", lower, self.folder, self.name, place]
            self.process = subprocess.Popen(
                [*WITH_US, *map(str, words)],
                stdin=subprocess.DEVNULL,
                stdout=self.console,
                stderr=self.console,
                pass_fds=[network.fileno()],
                # In a group of its own: Ctrl-C is for the tests, which then switch it off.
                start_new_session=True,
            )
        self.leader = until(self._find_leader, "the first process of the guest")

    def await_boot(self) -> None:
        """Wait until everything has started that starts at boot."""
        state = until(self._state, "the guest's system", within_s=60)
        assert state == "running", self.run("systemctl", "--failed", "--no-pager").stdout

    def power_off(self) -> None:
        """Pull the plug: every process ends at once, nothing is told or saved."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.leader or self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process = None
        self.leader = 0
        assert self.console is not None
        self.console.close()
        until(lambda: remove_groups(self.name), f"the end of every process of {self.name}")

    def run(
        self,
        *command: object,
        user: str = "root",
        check: bool = True,
        text: str | None = None,
        timeout_s: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there, with `text` as its input, to its end."""
        done = subprocess.run(
            [*self._prefix(user), *map(str, command)],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        if check and done.returncode != 0:
            shown = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
            raise AssertionError(f"{command} exits with {done.returncode}: {shown}")
        return done

    def sh(self, script: str, *, user: str = "root", check: bool = True) -> str:
        """Run a shell script there and return what it printed."""
        return self.run("bash", "-euc", script, user=user, check=check).stdout

    def ask(self, *command: object, user: str = "pi") -> dict[str, Any]:
        """Run a gymdbd verb there with --json and return its answer, whatever the exit code."""
        done = self.run("gymdbd", *command, "--json", user=user, check=False)
        try:
            return dict(json.loads(done.stdout))
        except ValueError:
            raise AssertionError(f"no JSON: {done.stdout!r} {done.stderr!r}") from None

    def write(self, path: str, text: str, *, owner: str = "root", mode: int = 0o644) -> None:
        """Write a file there, in one step; while it is off only files of root."""
        if not self.is_on:
            target = self.upper / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            return
        if not self.path(Path(path).parent).is_dir():
            self.run("install", "-d", "-o", owner, "-g", owner, Path(path).parent)
        options = ["-o", owner, "-g", owner, "-m", f"{mode:o}"]
        self.run("install", *options, "/dev/stdin", f"{path}.new", text=text)
        self.run("mv", f"{path}.new", path)

    def cursor(self) -> str:
        """Return the place in the journal where it ends now."""
        shown = self.run("journalctl", "--lines=0", "--show-cursor", "--quiet").stdout
        return shown.partition("cursor: ")[2].strip()

    def journal(self, *matches: str, after: str = "") -> list[dict[str, Any]]:
        """Return the journal's entries of gymdbd that match, in order."""
        # Not --after-cursor: with matches, journalctl 252 leaves out the first that fits as well.
        since = [f"--cursor={after}"] if after else []
        unit = [] if matches else ["--unit=gymdbd"]
        shown = self.run("journalctl", "--quiet", "--output=json", *unit, *since, *matches)
        found = [json.loads(line) for line in shown.stdout.splitlines()]
        return [entry for entry in found if entry["__CURSOR"] != after]

    def _prefix(self, user: str) -> list[str]:
        home = _HOMES.get(user, "/")
        clean = ["env", "-i", f"PATH={_PATH}", f"HOME={home}", f"USER={user}", "LANG=C.UTF-8"]
        enter = ["nsenter", f"--target={self.leader}", "--all", f"--wd={self.path(home)}", *clean]
        if user == "root":
            return enter
        groups = ["--init-groups", f"--reuid={user}", f"--regid={user}"]
        return [*enter, "setpriv", *groups, "--"]

    def _find_leader(self) -> int:
        """Return the process that is number 1 in there, 0 as long as there is none."""
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "console.log").read_text()
        candidates = [self.process.pid]
        while candidates:
            pid = candidates.pop()
            with contextlib.suppress(OSError):
                numbers = _line(f"/proc/{pid}/status", "NSpid:").split()[1:]
                if len(numbers) == _NUMBERS and numbers[-1] == "1":
                    return pid
                for task in Path(f"/proc/{pid}/task").iterdir():
                    candidates += map(int, (task / "children").read_text().split())
        return 0

    def _state(self) -> str:
        done = self.run("systemctl", "is-system-running", "--wait", check=False)
        return done.stdout.strip() if done.stdout.strip() in ("running", "degraded") else ""


def groups(pattern: str) -> list[Path]:
    """Return the control groups of machines by their names, in each hierarchy."""
    return [folder for root in _ROOTS for folder in (_GROUPS / root).glob(pattern)]


def remove_groups(name: str) -> bool:
    """Remove the control groups of a machine that is off; False while a process is left in one."""
    folders = [folder for top in groups(name) for folder in (top, *top.rglob("*/"))]
    for folder in sorted(folders, reverse=True):
        try:
            folder.rmdir()
        except OSError:
            return False
    return True


def sweep() -> None:
    """Remove the control groups, empty by now, of tests that were ended hard."""
    for top in groups("gde2e-*"):
        if not Path("/proc", top.name.split("-")[1]).exists():
            remove_groups(top.name)


def _line(path: str, start: str) -> str:
    lines = Path(path).read_text(encoding="utf-8").splitlines(keepends=True)
    return next((line for line in lines if line.startswith(start)), "")


@contextlib.contextmanager
def guest(lower: tuple[Path, ...], folder: Path, place: Place) -> Iterator[Guest]:
    """Make a machine, which is off, and see to it that nothing of it is left in the end."""
    folder.mkdir()
    machine = Guest(lower, folder, place)
    try:
        yield machine
    finally:
        machine.power_off()
