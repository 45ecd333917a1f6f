"""The Mac in the office: this machine, in a network namespace, with a home folder of its own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.e2e.network import PI_FAR, PI_NEAR
from tests.support.command import GYMDBD, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.network import Place


@dataclass
class Mac:
    """A place in the network, a home folder, and the Pi's host key, which somebody compared."""

    place: Place
    home: Path
    host_key: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the key that serves nothing but pulls, and the way to the Pi."""
        ssh = self.home / ".ssh"
        ssh.mkdir(mode=0o700)
        self.key = ssh / "gymdbd"
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
        subprocess.run(command, check=True)
        (ssh / "known_hosts").write_text(f"{PI_NEAR},{PI_FAR} {self.host_key}")
        options = f"User pi\n IdentityFile {self.key}\n IdentitiesOnly yes\n"
        options += f" UserKnownHostsFile {ssh}/known_hosts\n"
        (ssh / "config").write_text(
            f"Host raspberry-pi\n HostName {PI_NEAR}\n {options}"
            f"Host raspberry-pi-far\n HostName {PI_FAR}\n HostKeyAlias {PI_FAR}\n {options}"
        )

    @property
    def public_key(self) -> str:
        """Return the half of the key that goes to the Pi."""
        return self.key.with_suffix(".pub").read_text()

    @property
    def replica(self) -> Path:
        """Return where the replica is kept."""
        return self.home / "gym-controller" / "gym_system.db"

    def start(self, *command: object) -> subprocess.Popen[str]:
        """Start a command there."""
        process = subprocess.Popen(
            [*self.place.prefix, *map(str, command)],
            env=environment(HOME=str(self.home)),
            cwd=self.home,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a story that failed has left at work."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def run(self, *command: object, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end; standard input is empty."""
        process = self.start(*command)
        out, err = process.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ssh(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run OpenSSH's ssh to the Pi."""
        return self.run("ssh", "-F", self.home / ".ssh/config", "-o", "BatchMode=yes", *arguments)

    def configure(self, notify: dict[str, Any] | None = None, **changes: Any) -> None:
        """Write the configuration: one pull, by hand unless said otherwise."""
        self.replica.parent.mkdir(exist_ok=True)
        job = {
            "kind": "pull",
            "schedule": "0 9 * * *",
            "host": "raspberry-pi",
            "remote_database": "/home/pi/gym-controller/instance/gym_system.db",
            "replica": str(self.replica),
            **changes,
        }
        job = {key: value for key, value in job.items() if value is not None}
        content = {
            "status_file": str(self.home / "status.json"),
            **({"notify": notify} if notify else {}),
            "jobs": {"pull-from-pi": job},
        }
        (self.home / "config.yaml").write_text(json.dumps(content))
        (self.home / "config.yaml").chmod(0o600)

    def start_daemon(self) -> subprocess.Popen[str]:
        """Run the daemon, as the agent does, until it is ended."""
        return self.start(*GYMDBD, "-c", self.home / "config.yaml", "run")

    def start_pull(self) -> subprocess.Popen[str]:
        """Begin a pull as the configuration says."""
        words = [*GYMDBD, "-c", self.home / "config.yaml", "pull", "pull-from-pi", "--json"]
        return self.start(*words)

    def pull(self, *, timeout_s: float = 120) -> dict[str, Any]:
        """Pull as the configuration says and return the answer, whatever the exit code."""
        return self.answer(self.start_pull(), timeout_s=timeout_s)

    def answer(self, pull: subprocess.Popen[str], *, timeout_s: float = 120) -> dict[str, Any]:
        """Wait for a pull's end and return its answer."""
        out, err = pull.communicate(timeout=timeout_s)
        try:
            return dict(json.loads(out))
        except ValueError:
            raise AssertionError(f"no JSON: {out!r} {err!r}") from None
