"""The Pi as the stories know it: the gym's application, and gymdbd as a service."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e import tree
from tests.support.command import ROOT
from tests.support.waiting import until

if TYPE_CHECKING:
    import subprocess

    from tests.e2e.guest import Guest
    from tests.e2e.network import Office

HOME = "/home/pi/gym-controller"
INSTANCE = f"{HOME}/instance"
DATABASE = f"{INSTANCE}/gym_system.db"
ARCHIVE = f"{HOME}/data/backups/database"
STATE = "/var/lib/gymdbd"
STATUS = f"{STATE}/status.json"
CONFIG = "/etc/gymdbd/config.yaml"
JOB = "nightly-backup"
ZONE_OFFSET = "+09:00"

_DROP_INS = "/etc/systemd/system/gymdbd.service.d"
_CLOCK = "/etc/gymdbd/clock"
_KEYS = "/home/pi/.ssh/authorized_keys"
_SITE = "/usr/local/lib/true-sleep"
_GYM = "http://127.0.0.1:8000"
# The monotonic clock stays true, as it does on a machine whose wall clock is set.
_FAKE_CLOCK = f"""[Service]
Environment=LD_PRELOAD=/usr/lib/%s-linux-gnu/faketime/libfaketimeMT.so.1
Environment=FAKETIME_TIMESTAMP_FILE={_CLOCK} FAKETIME_NO_CACHE=1 NO_FAKE_STAT=1
Environment=DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1
Environment=PYTHONPATH={_SITE}
"""
# time.sleep of Python 3.11 sleeps until a moment of the monotonic clock, and libfaketime 0.9.10
# takes that moment for one of the wall clock: EINVAL, or a sleep without end.
_SLEEP = """import select, time

def sleep(seconds):
    select.select([], [], [], seconds)

time.sleep = sleep
"""


@dataclass
class Pi:
    """What a story does with its machine, which stands in an office of its own."""

    machine: Guest
    office: Office

    @property
    def host_key(self) -> str:
        """Return the public half of what sshd shows, as somebody at the machine reads it."""
        return (self.machine.lower[-1] / "etc/ssh/ssh_host_ed25519_key.pub").read_text()

    def unpack(self, wheels: Path) -> None:
        """Put this checkout and the wheels into /home/pi, as somebody would with a USB stick."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            tree.checkout(folder / "gymdbd")
            for source, target in ((folder / "gymdbd", "gymdbd"), (wheels, "wheels")):
                shutil.copytree(source, self.machine.path(f"/home/pi/{target}"))
        self.machine.sh("chown -R pi:pi /home/pi/gymdbd /home/pi/wheels")

    def install(self, *flags: str, check: bool = True) -> str:
        """Install the service without a network, as the guide says, and return what was said."""
        paths = ["--database", DATABASE, "--archive", ARCHIVE, "--wheels", "/home/pi/wheels"]
        command = ("/home/pi/gymdbd/deploy/install.sh", *paths, *flags)
        return self.machine.run(*command, check=check).stdout

    def start_gym(self) -> None:
        """Start the gym's application, with a member; it is at rest until told otherwise."""
        self.set_gym_up()
        self.machine.sh("systemctl start gym")
        until(lambda: self._gym("GET", "/totals"), "the gym's application")
        assert self._gym("POST", "/members", '{"name": "김회원"}')

    def set_gym_up(self) -> None:
        """Put the gym's application there, without starting it."""
        application = (ROOT / "tests" / "support" / "flask_app.py").read_text()
        self.machine.write(f"{HOME}/flask_app.py", application, owner="pi")

    def reset(self) -> None:
        """Be as right after the installation, at the true time, with an empty database."""
        script = f"""
        systemctl stop gymdbd gym
        rm -rf {HOME}/instance/* {ARCHIVE}/* {ARCHIVE}/.[!.]* {STATE}/* {STATE}/.[!.]*
        rm -f {_DROP_INS}/{{story,network,credentials}}.conf {_CLOCK} {_KEYS}
        systemctl daemon-reload
        systemctl reset-failed
        """
        self.machine.sh(script)
        self.start_gym()
        self.configure()

    def configure(
        self,
        jobs: dict[str, dict[str, Any]] | None = None,
        notify: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        """Write the configuration: the nightly backup with `changes`, or these jobs."""
        nightly = {"schedule": "0 3 * * *", **changes}
        nightly = {key: value for key, value in nightly.items() if value is not None}
        jobs = {JOB: nightly} if jobs is None else jobs
        folders = {"database": DATABASE, "archive": ARCHIVE}
        content = {
            "status_file": STATUS,
            **({"notify": notify} if notify else {}),
            "jobs": {
                name: job if "kind" in job else {"kind": "backup", **folders, **job}
                for name, job in jobs.items()
            },
        }
        self.machine.write(CONFIG, json.dumps(content, indent=1))

    def drop_in(self, text: str) -> None:
        """Give the service more settings, until the next reset; they hold from its next start."""
        self.machine.write(f"{_DROP_INS}/story.conf", text)
        if self.machine.is_on:
            self.machine.run("systemctl", "daemon-reload")

    def fake_clock(self, moment: str, *, zone: str = "") -> None:
        """Let the service live at `moment` (RFC 3339) from its next start on."""
        machine = platform.machine()
        more = f"Environment=TZ={zone}\n" if zone else ""
        self.machine.write(f"{_SITE}/sitecustomize.py", _SLEEP)
        self.drop_in(_FAKE_CLOCK % machine + more)
        self.set_clock(moment)

    def set_clock(self, moment: str) -> None:
        """Set the clock that the service sees, while it runs or before."""
        offset = datetime.fromisoformat(moment) - datetime.now(UTC)  # noqa: TID251 - the machine's
        # In one step: the service reads it whenever it looks at the time.
        self.machine.write(_CLOCK, f"{offset.total_seconds():+.0f}\n")

    def move_clock(self, moment: str) -> None:
        """Set the clock of the running service, and let it look now, as it does at every turn."""
        self.set_clock(moment)
        self.machine.run("systemctl", "reload", "gymdbd")

    def now(self, zone: str = "Asia/Seoul") -> str:
        """Return the local time that the service sees."""
        return self.at_its_time("env", f"TZ={zone}", "date", "+%F %T").stdout.strip()

    def at_its_time(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command as the user of the service and at the time that it sees."""
        variables = self.show("Environment").split()
        return self.machine.run("env", *variables, *command, user="pi", check=False)

    def gymdbd_at_its_time(self, *words: object) -> dict[str, Any]:
        """Run a verb by hand at the time that the service sees."""
        return dict(json.loads(self.at_its_time("gymdbd", *words, "--json").stdout))

    def start(self) -> None:
        """Start the service, and wait until it says that it is ready."""
        self.machine.run("systemctl", "start", "gymdbd")

    def restricted(self, public_key: str, *flags: str) -> str:
        """Return the line by which that key serves nothing but pulls of the database."""
        words = ("gymdbd", "authorize", "--database", DATABASE, *flags)
        return self.machine.run(*words, user="pi", text=public_key).stdout

    def let_in(self, line: str) -> None:
        """Let a key in as the user pi, and no other: a line of `authorized_keys`."""
        self.machine.write(_KEYS, line, owner="pi", mode=0o600)

    def show(self, name: str) -> str:
        """Return one property of the service."""
        return self.machine.run("systemctl", "show", "-P", name, "gymdbd").stdout.strip()

    def gymdbd(self, *words: object, user: str = "pi") -> dict[str, Any]:
        """Run a verb as somebody at the machine would, and return its answer."""
        return self.machine.ask(*words, user=user)

    def status(self) -> dict[str, Any]:
        """Return the entry of the nightly backup in the status file, {} where there is none."""
        done = self.machine.run("cat", STATUS, check=False)
        content: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"jobs": {}}
        return dict(content["jobs"].get(JOB, {}))

    def runs(self, job: str = JOB) -> list[dict[str, Any]]:
        """Return the runs of a job that have ended, oldest first."""
        done = self.machine.run("cat", STATUS, check=False)
        content: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"jobs": {}}
        return list(reversed(content["jobs"].get(job, {}).get("runs", [])))

    def await_runs(
        self, count: int, *, job: str = JOB, within_s: float = 60
    ) -> list[dict[str, Any]]:
        """Wait until that many runs have ended and return them."""
        return list(
            until(
                lambda: self.runs(job) if len(self.runs(job)) >= count else [],
                f"{count} runs of {job}: {self.runs(job)}",
                within_s=within_s,
            )
        )

    def events(self, *matches: str, after: str = "") -> list[dict[str, Any]]:
        """Return the journal's entries with an event of gymdbd's own."""
        entries = self.machine.journal("_SYSTEMD_UNIT=gymdbd.service", *matches, after=after)
        return [one for one in entries if "GYMDBD_EVENT" in one]

    def await_event(self, event: str, *, after: str = "", within_s: float = 30) -> dict[str, Any]:
        """Wait for an event in the journal and return its entry."""
        match = f"GYMDBD_EVENT={event}"
        found = until(
            lambda: self.events(match, after=after), f"the event {event}", within_s=within_s
        )
        return dict(found[-1])

    def backups(self) -> list[str]:
        """Return the names of the backups, oldest first."""
        return self.machine.sh(f"cd {shlex.quote(ARCHIVE)} && ls | grep 'db$' || true").split()

    def rent(self, fee: int = 5) -> None:
        """Rent a locker."""
        assert self._gym("POST", "/rentals", json.dumps({"fee": fee}))

    def start_writer(self) -> None:
        """Let the application write at full rate."""
        assert self._gym("POST", "/writer")
        until(lambda: self.commits() > 0, "the first commit")

    def stop_writer(self) -> None:
        """Let the application rest."""
        self._gym("DELETE", "/writer")

    def commits(self) -> int:
        """Return how many transactions the writer has committed."""
        return int(json.loads(self._gym("GET", "/writer") or "{}").get("commits", 0))

    def _gym(self, method: str, path: str, body: str = "") -> str:
        """Send the application a request from within, return its answer, "" where it fails."""
        script = (
            "import sys, urllib.request as web\n"
            "method, address, body = sys.argv[1:]\n"
            "request = web.Request(address, method=method, data=body.encode() or None,\n"
            "    headers={'Content-Type': 'application/json'})\n"
            "print(web.urlopen(request, timeout=30).read().decode())\n"
        )
        words = ["python3", "-c", script, method, _GYM + path, body]
        return self.machine.run(*words, user="pi", check=False).stdout
