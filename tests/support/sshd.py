"""A real OpenSSH server on loopback with keys and configuration of its own, and its client's home.

The fixtures come to the tests by `integration/conftest.py`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd.remote.ssh.target import HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
SFTP_SERVER = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh:/usr/libexec")
_DEADLINE_S = 10.0


def run_tool(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that must succeed, without a terminal, and return what it says."""
    return subprocess.run(
        words,
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=environment,
    ).stdout


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = _DEADLINE_S) -> None:
    """Return as soon as `condition()` is true; fail when it is not within the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.01)


def make_key(path: Path, *, kind: str = "ed25519", passphrase: str = "", comment: str = "") -> Path:
    """Make a key pair with ssh-keygen and return the private key's path."""
    words = ("-q", "-t", kind, "-N", passphrase, "-C", comment or path.name, "-f", str(path))
    run_tool("ssh-keygen", *words)
    return path


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(path: str) -> bool:
    """Say whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


@contextlib.contextmanager
def an_agent(folder: Path, *keys: Path) -> Iterator[str]:
    """Run an agent that holds these keys, made with the passphrase `secret-word` or none."""
    path = f"/tmp/agent-{os.getpid()}-{free_port()}"  # noqa: S108 - a socket's path must be short
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(path), "the agent")
        # ssh-add asks SSH_ASKPASS where there is no terminal.
        asker = folder / "ask"
        asker.write_text("#!/bin/sh\necho secret-word\n")
        asker.chmod(0o700)
        told = {"SSH_AUTH_SOCK": path, "SSH_ASKPASS": str(asker), "SSH_ASKPASS_REQUIRE": "force"}
        for key in keys:
            run_tool("ssh-add", "-q", str(key), environment={**os.environ, **told})
        yield path
    finally:
        agent.terminate()
        agent.wait()


class SshServer:
    """One sshd, a child process of the test; `start` and `stop` it, or use it as a context.

    `forced_command` restricts the key to that command, `config` are further lines of sshd_config,
    `environment` is set for every session, `prefix` goes before the command that starts it.
    `user_key` is the key that is let in, `host_key` the server's own; `log()` is what it said.
    """

    def __init__(
        self,
        folder: Path,
        *,
        forced_command: str = "",
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.host_key = make_key(folder / "host_key")
        self.user_key = make_key(folder / "user_key")
        self.known_hosts = folder / "known_hosts"
        self._authorized = folder / "authorized_keys"
        self._log = folder / "sshd.log"
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None
        self.authorize(self.user_key, forced_command=forced_command)
        self._write_known_hosts()
        self._write_config(config, environment or {})

    def authorize(self, key: Path, *, forced_command: str = "") -> None:
        """Let a key in, for one command only where that is given."""
        escaped = forced_command.replace('"', '\\"')
        options = f'restrict,command="{escaped}" ' if forced_command else ""
        public = key.with_name(key.name + ".pub").read_text()
        with self._authorized.open("a") as file:
            file.write(options + public)

    def _write_known_hosts(self) -> None:
        kind, blob = self.host_key.with_name("host_key.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {kind} {blob}\n")

    def _write_config(self, config: Sequence[str], environment: Mapping[str, str]) -> None:
        # sshd takes the first SetEnv line only.
        words = " ".join(f'"{name}={value}"' for name, value in environment.items())
        lines = [
            *config,
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self._authorized}",
            f"PidFile {self.folder / 'sshd.pid'}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "Subsystem sftp internal-sftp",
            "LogLevel VERBOSE",
            *([f"SetEnv {words}"] if words else []),
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")

    def start(self) -> SshServer:
        """Start it and wait until it listens."""
        assert SSHD, "sshd is needed for this test: apt-get install openssh-server"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        wait_until(lambda: "Server listening" in self.log(), f"sshd to listen: {self.log()}")
        return self

    def stop(self) -> None:
        """Stop listening; sessions end when their clients close them."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=_DEADLINE_S)
            self._process = None

    def __enter__(self) -> SshServer:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def log(self) -> str:
        """Return what sshd has said so far."""
        return self._log.read_text(errors="replace")

    def settings(self, **changes: object) -> HostSettings:
        """Return settings that need no `~/.ssh/config`."""
        given: dict[str, object] = {
            "host": "127.0.0.1",
            "port": self.port,
            "identity_file": str(self.user_key),
            "identities_only": True,
            "known_hosts": str(self.known_hosts),
            "connect_timeout_s": 5.0,
            "stall_timeout_s": 10.0,
        }
        return HostSettings(**{**given, **changes})  # type: ignore[arg-type]

    def config_block(self, alias: str, *lines: str) -> str:
        """Write the block of `~/.ssh/config` that makes `alias` mean this server."""
        return "\n    ".join(
            [
                f"Host {alias}",
                "HostName 127.0.0.1",
                f"Port {self.port}",
                f"IdentityFile {self.user_key}",
                "IdentitiesOnly yes",
                f"UserKnownHostsFile {self.known_hosts}",
                *lines,
                "",
            ]
        )


@pytest.fixture
def ssh_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home of its own without keys or agent; return its `.ssh` folder."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home / ".ssh"


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """Run one server for all tests of a module."""
    with SshServer(tmp_path_factory.mktemp("sshd")) as server:
        yield server
