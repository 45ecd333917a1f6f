"""Settings, known hosts and the words of errors: what needs no server to be tested."""

from __future__ import annotations

import base64
import contextlib
import errno
import importlib
import pkgutil
import socket
import time
from typing import TYPE_CHECKING, cast

import paramiko
import pytest

from gymdbd.remote.errors import HostNotFoundError, NoRouteError, SshConfigError
from gymdbd.remote.ssh import certificate, faults, ssh, translation
from gymdbd.remote.ssh.known_hosts import find_keys
from gymdbd.remote.ssh.target import HostSettings, Target
from gymdbd.remote.ssh.wire import Socket, Wire
from gymdbd.source.errors import GymdbdError
from tests.support.sshd import make_key, run_tool

if TYPE_CHECKING:
    from pathlib import Path

# Never leave paramiko: it raises and catches them itself, or has them for Windows.
INTERNAL = {"BERException", "NeedRekeyException", "PipeTimeout", "WindowsError"}

KEY = paramiko.RSAKey.generate(1024)
BLOB = base64.b64encode(b"a public key").decode()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a home with an empty `.ssh`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def resolve(home: Path, config: str, **settings: object) -> Target:
    """Resolve `pi` with this `~/.ssh/config`."""
    (home / ".ssh" / "config").write_text(config)
    return ssh.resolve(HostSettings(**{"host": "pi", **settings}))  # type: ignore[arg-type]


def paramiko_exceptions() -> dict[str, type[Exception]]:
    """List every class of exception that any module of paramiko defines."""
    found: dict[str, type[Exception]] = {}
    for module in pkgutil.iter_modules(paramiko.__path__):
        if module.name in ("_winapi", "win_openssh", "win_pageant"):
            continue
        names = vars(importlib.import_module(f"paramiko.{module.name}"))
        for value in names.values():
            if (
                isinstance(value, type)
                and issubclass(value, Exception)
                and value.__module__.startswith("paramiko")
            ):
                found[value.__name__] = value
    return found


def test_every_exception_of_paramiko_has_a_translation() -> None:
    """A release of paramiko that adds an exception fails here, not in the night."""
    missing = {
        name
        for name, kind in paramiko_exceptions().items()
        if kind not in translation.TRANSLATIONS and name not in INTERNAL
    }

    assert missing == set()


@pytest.mark.parametrize(
    "error",
    [
        paramiko.SSHException("odd"),
        paramiko.AuthenticationException("no"),
        paramiko.BadAuthenticationType("no", ["password"]),
        paramiko.BadHostKeyException("pi", KEY, KEY),
        paramiko.ChannelException(2, "no"),
        paramiko.ProxyCommandFailure("nc", "no"),
        paramiko.SFTPError("Garbage packet received"),
        EOFError(),
        ConnectionResetError(errno.ECONNRESET, "reset"),
    ],
)
def test_every_translation_is_ours_and_has_a_hint(home: Path, error: Exception) -> None:
    """Whatever is raised becomes a GymdbdError that says what to do."""
    ours = translation.translate(error, resolve(home, ""))

    assert isinstance(ours, GymdbdError)
    assert ours.message
    assert ours.hint


_HERE, _BOTH, _NOT = ("Local Network",), ("ping", "Local Network"), ("ping",)


@pytest.mark.parametrize(
    ("number", "platform", "elapsed_s", "told"),
    [
        (errno.EHOSTUNREACH, "darwin", 0.003, _HERE),
        (errno.EHOSTUNREACH, "darwin", 3.1, _BOTH),
        (errno.EHOSTDOWN, "darwin", 0.003, _NOT),
        (errno.ENETUNREACH, "darwin", 0.003, _NOT),
        (errno.EHOSTUNREACH, "linux", 0.003, _NOT),
    ],
)
def test_no_route_on_macos_may_be_the_privacy_block(
    home: Path, number: int, platform: str, elapsed_s: float, told: tuple[str, ...]
) -> None:
    """Only macOS refuses a route within milliseconds. A host that is down is another thing."""
    error = faults.not_connected(OSError(number, "No"), resolve(home, ""), elapsed_s, platform)

    assert isinstance(error, NoRouteError)
    assert (error.state, error.transient) == ("unreachable", True)
    assert tuple(word for word in ("ping", "Local Network") if word in error.hint) == told


@pytest.mark.parametrize(
    ("name", "platform", "told"),
    [
        ("pi.local", "darwin", True),
        ("pi.local.", "darwin", True),
        ("pi.example.org", "darwin", False),
        ("pi.local", "linux", False),
    ],
)
def test_a_local_name_that_macos_does_not_find_may_be_the_privacy_block(
    home: Path, name: str, platform: str, *, told: bool
) -> None:
    """Such names are asked for in the local network, which a program may be kept out of."""
    target = resolve(home, f"Host pi\n  HostName {name}\n")
    unknown = socket.gaierror(socket.EAI_NONAME, "nodename nor servname provided, or not known")
    error = faults.not_connected(unknown, target, 0.01, platform)

    assert (isinstance(error, HostNotFoundError), "Local Network" in error.hint) == (True, told)


def test_a_locked_key_on_a_mac_is_loaded_at_each_login(home: Path) -> None:
    """After a restart the agent is empty, and a LaunchDaemon has none; the hint names both."""
    unusable = ["key needs a passphrase and the agent does not hold it"]
    error = faults.login_refused(resolve(home, ""), (), unusable, "publickey", "darwin")

    words = ("restart", "--apple-load-keychain", "LaunchDaemon", "gymdbd authorize")
    assert [word for word in words if word not in error.hint] == []


@pytest.mark.parametrize(
    ("line", "known"),
    [
        (f"pi ssh-ed25519 {BLOB}", True),
        (f"PI,192.168.1.7 ssh-ed25519 {BLOB} comment here", True),
        (f"192.168.1.? ssh-ed25519 {BLOB}", False),
        (f"p*,!pi ssh-ed25519 {BLOB}", False),
        (f"p* ssh-ed25519 {BLOB}", True),
        (f"[pi]:22 ssh-ed25519 {BLOB}", False),
        (f"# pi ssh-ed25519 {BLOB}", False),
        ("pi ssh-ed25519 not!base64", False),
        ("pi ssh-ed25519", False),
        (f"|1|broken ssh-ed25519 {BLOB}", False),
        ("", False),
    ],
)
def test_lines_of_known_hosts_mean_what_openssh_means(
    tmp_path: Path, line: str, *, known: bool
) -> None:
    """Patterns, negation, markers and broken lines are read as sshd(8) says."""
    file = tmp_path / "known_hosts"
    file.write_text(f"{line}\n")

    assert bool(find_keys((file,), "pi")) == known


@pytest.mark.parametrize(
    ("words", "changed", "said"),
    [
        (["-h"], False, ""),
        (["-h"], True, "it cannot be checked (InvalidSignature)"),
        ([], False, "it is not for a host"),
        (["-h", "-t", "ssh-rsa"], False, "it is signed with SHA-1"),
        (["-h", "-O", "critical:odd"], False, "it has conditions that gymdbd does not know"),
    ],
)
def test_a_certificate_vouches_for_a_host_only_if_all_of_it_holds(
    words: list[str], said: str, tmp_path: Path, *, changed: bool
) -> None:
    """Signed by the authority, with what is safe, for hosts, for this one, without conditions."""
    host, authority = make_key(tmp_path / "host"), make_key(tmp_path / "authority", kind="rsa")
    names = ["-n", "pi", f"{host}.pub"]
    run_tool("ssh-keygen", "-q", "-s", str(authority), "-I", "x", *words, *names)
    kind, text = (tmp_path / "host-cert.pub").read_text().split()[:2]
    signer = base64.b64decode((tmp_path / "authority.pub").read_text().split()[1])
    blob = base64.b64decode(text)
    if changed:
        blob = blob.replace(b"\0\0\0\2pi", b"\0\0\0\2pj")
    assert certificate.refuse(kind, blob, [signer], "pj" if changed else "pi") == said


def test_a_peer_that_takes_no_bytes_is_not_waited_for() -> None:
    """Paramiko sends again for ever after a timeout, so the wire has to say when it is enough."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = Wire(cast("Socket", ours), stall_timeout_s=0.2)
        wire.settimeout(0.05)
        began = time.monotonic()
        with pytest.raises(BrokenPipeError):
            send_for_ever(wire)

    assert wire.stalled
    assert 0.2 <= time.monotonic() - began < 5


def send_for_ever(wire: Wire) -> None:
    """Send as paramiko does: again after every timeout."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            wire.send(bytes(65536))


def test_a_port_is_part_of_the_known_name(tmp_path: Path) -> None:
    """`[pi]:2222` is found under that name only, although brackets are special in patterns."""
    file = tmp_path / "known_hosts"
    file.write_text(f"[pi]:2222 ssh-ed25519 {BLOB}\n")

    assert len(find_keys((file,), "[pi]:2222")) == 1
    assert find_keys((file,), "pi") == ()


def test_without_any_configuration_the_defaults_of_openssh_hold(home: Path) -> None:
    """The alias is the name, port 22, the default keys and the usual known hosts."""
    target = ssh.resolve(HostSettings(host="pi"))

    assert (target.hostname, target.port, target.host_key_name) == ("pi", 22, "pi")
    assert home / ".ssh" / "id_ed25519" in target.identity_files
    assert target.known_hosts[0] == home / ".ssh" / "known_hosts"
    assert not target.identities_only


def test_whichever_proxy_is_said_first_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ProxyJump and ProxyCommand compete as in OpenSSH; `none` switches the other off."""
    monkeypatch.setenv("SHELL", "/bin/sh")
    jump_first = resolve(home, "Host pi\n ProxyJump me@gate:2200\n ProxyCommand nc %h %p\n")
    command_first = resolve(home, "Host pi\n ProxyCommand nc %h %p\n ProxyJump gate\n")
    switched_off = resolve(home, "Host pi\n ProxyCommand none\nHost *\n ProxyJump gate\n")

    assert [(hop.name, hop.port, hop.user) for hop in jump_first.jumps] == [("gate", 2200, "me")]
    assert command_first.proxy_command == ("/bin/sh", "-c", "exec nc pi 22")
    assert (switched_off.jumps, switched_off.proxy_command) == ((), ())


@pytest.mark.parametrize(
    "config",
    [
        *("Host pi\n Port none\n", "Host pi\n Port 70000\n", "Host pi\n Port\n"),
        "Match nonsense\n User x\n",
    ],
)
def test_a_broken_ssh_config_is_an_error_of_ours(home: Path, config: str) -> None:
    """What cannot be understood is refused, never guessed."""
    with pytest.raises(SshConfigError):
        resolve(home, config)
