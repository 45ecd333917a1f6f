"""Connecting, being recognised and being let in, against a real OpenSSH server."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from gymdbd.errors import StoppedError
from gymdbd.remote.errors import (
    AuthenticationError,
    ChannelRefusedError,
    CommandMissingError,
    ConnectRefusedError,
    ConnectTimeoutError,
    HostKeyChangedError,
    HostKeyUnknownError,
    HostNotFoundError,
    ProxyError,
    RemoteCommandError,
    SshConfigError,
    SshProtocolError,
)
from gymdbd.remote.ssh import ssh
from gymdbd.remote.ssh.known_hosts import find_keys, fingerprint
from gymdbd.remote.ssh.target import HostSettings
from gymdbd.source.errors import ConnectionLostError, GymdbdError, StalledError
from tests.support.relay import Relay
from tests.support.sshd import SshServer, an_agent, free_port, make_key, run_tool, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gymdbd.remote.ssh.stream import Command

pytestmark = pytest.mark.usefixtures("ssh_home")


def read_all(channel: Command) -> bytes:
    """Read a command's stdout to its end."""
    return b"".join(iter(lambda: channel.reader.read(65536), b""))


def say(settings: HostSettings, *words: str) -> bytes:
    """Connect, run `echo` over there, and return what it says."""
    with ssh.connect(ssh.resolve(settings)) as connection:
        return read_all(connection.run(["echo", *(words or ("hello",))]))


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Listen on a port of loopback and give the first client that connects to `answer`."""
    release = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                answer(client)
                release.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            release.set()
            thread.join()


def test_an_alias_of_the_ssh_config_is_enough(ssh_server: SshServer, ssh_home: Path) -> None:
    """HostName, Port, IdentityFile and UserKnownHostsFile all come from `~/.ssh/config`."""
    (ssh_home / "config").write_text(ssh_server.config_block("raspberry-pi"))

    assert say(HostSettings(host="raspberry-pi")) == b"hello\n"


def test_an_included_file_of_the_ssh_config_is_read(ssh_server: SshServer, ssh_home: Path) -> None:
    """Include is followed, and the block it stands in goes on afterwards."""
    (ssh_home / "config.d").mkdir()
    (ssh_home / "config.d" / "pi.conf").write_text(ssh_server.config_block("raspberry-pi"))
    (ssh_home / "config").write_text("Include config.d/*.conf\nUser nobody-else\n")

    target = ssh.resolve(HostSettings(host="raspberry-pi"))

    assert (target.port, target.user) == (ssh_server.port, "nobody-else")


def test_the_settings_win_over_the_ssh_config(ssh_server: SshServer, ssh_home: Path) -> None:
    """A wrong port and key in `~/.ssh/config` do no harm when the settings name the right ones."""
    (ssh_home / "config").write_text(
        "Host raspberry-pi\n  HostName 127.0.0.1\n  Port 9\n  IdentityFile /nowhere\n"
    )

    assert say(ssh_server.settings(host="raspberry-pi")) == b"hello\n"


def test_arguments_arrive_as_they_are(ssh_server: SshServer) -> None:
    """Spaces, quotes, dollars, newlines and Hangul reach the command without a shell's help."""
    odd = "a b'c\"d $HOME `id` \\ * ; 한글\nend"

    assert say(ssh_server.settings(), odd) == odd.encode() + b"\n"


def test_aes_gcm_is_agreed_on_where_both_have_it(ssh_server: SshServer) -> None:
    """Without Ciphers in the configuration the fast cipher is taken."""
    with ssh.connect(ssh.resolve(ssh_server.settings())) as connection:
        assert connection.cipher == "aes128-gcm@openssh.com"


def test_a_chosen_cipher_is_used(ssh_server: SshServer) -> None:
    """Ciphers is honoured where paramiko has the cipher."""
    settings = ssh_server.settings(ciphers="chacha20-poly1305@openssh.com,aes256-ctr")

    with ssh.connect(ssh.resolve(settings)) as connection:
        assert connection.cipher == "aes256-ctr"


def test_a_cipher_that_nobody_has_is_refused_by_name(ssh_server: SshServer) -> None:
    """A Ciphers line without a usable cipher says which ones can be named."""
    with pytest.raises(SshConfigError, match="rot13") as caught:
        say(ssh_server.settings(ciphers="rot13"))

    assert "aes128-gcm@openssh.com" in caught.value.hint


def test_a_host_behind_two_jump_hosts_is_reached(tmp_path: Path, ssh_home: Path) -> None:
    """Each hop is looked up in the file, checked, and logged in to."""
    with (
        SshServer(tmp_path / "outer") as outer,
        SshServer(tmp_path / "inner") as inner,
        SshServer(tmp_path / "pi") as pi,
    ):
        (ssh_home / "config").write_text(
            outer.config_block("outer")
            + inner.config_block("inner", "ProxyJump outer")
            + pi.config_block("pi", "ProxyJump inner")
        )

        assert say(HostSettings(host="pi")) == b"hello\n"
        assert [hop.name for hop in ssh.resolve(HostSettings(host="pi")).jumps] == [
            "outer",
            "inner",
        ]


def test_the_jump_hosts_key_is_checked_as_well(
    tmp_path: Path, ssh_server: SshServer, ssh_home: Path
) -> None:
    """An unknown jump host is refused before anything is sent through it."""
    with SshServer(tmp_path / "jump") as jump:
        jump.known_hosts.write_text("")
        (ssh_home / "config").write_text(
            jump.config_block("jump") + ssh_server.config_block("pi", "ProxyJump jump")
        )

        with pytest.raises(HostKeyUnknownError, match=r"^jump "):
            say(HostSettings(host="pi"))


def test_a_jump_host_that_gets_no_further_is_named(
    tmp_path: Path, ssh_server: SshServer, ssh_home: Path
) -> None:
    """A target that is down behind its jump host counts as unreachable, and both are named."""
    down = SshServer(tmp_path / "down")
    (ssh_home / "config").write_text(
        ssh_server.config_block("jump") + down.config_block("pi", "ProxyJump jump")
    )

    with pytest.raises(ProxyError, match=r"jump host jump .* cannot reach pi") as caught:
        say(HostSettings(host="pi"))

    assert (caught.value.state, caught.value.transient) == ("unreachable", True)


def test_a_jump_host_that_jumps_through_itself_is_an_error(ssh_home: Path) -> None:
    """A loop of ProxyJump ends in an error about the configuration."""
    (ssh_home / "config").write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")

    with pytest.raises(SshConfigError, match="jump hosts"):
        ssh.resolve(HostSettings(host="a"))


def test_a_proxy_command_carries_the_connection(ssh_server: SshServer, ssh_home: Path) -> None:
    """ProxyCommand is started with its words filled in, and its output is the connection."""
    program = (
        "import socket,sys,threading,os\n"
        "s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
        "def up():\n"
        "    while (d:=os.read(0,65536)): s.sendall(d)\n"
        "threading.Thread(target=up,daemon=True).start()\n"
        "while (d:=s.recv(65536)): os.write(1,d)\n"
    )
    (ssh_home / "proxy.py").write_text(program)
    command = shlex.join([sys.executable, str(ssh_home / "proxy.py")]) + " %h %p"
    (ssh_home / "config").write_text(
        ssh_server.config_block("raspberry-pi", f"ProxyCommand {command}")
    )

    assert say(HostSettings(host="raspberry-pi")) == b"hello\n"


@pytest.mark.parametrize("command", ["sh -c 'echo secret >&2; exit 1'", "/no/such/proxy --secret"])
def test_a_proxy_command_that_fails_is_named(ssh_server: SshServer, command: str) -> None:
    """By its program's name alone: its words and what it prints may be secrets."""
    with pytest.raises(ProxyError, match=r"\((echo|proxy)\) did not get through") as caught:
        say(ssh_server.settings(proxy_command=command))
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_an_unknown_host_key_is_refused_with_the_way_out(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """The fingerprint seen is the server's, and the command that is offered really mends it."""
    known = tmp_path / "my hosts"
    with pytest.raises(HostKeyUnknownError) as caught:
        say(ssh_server.settings(known_hosts=str(known)))

    public = str(ssh_server.host_key) + ".pub"
    shown = run_tool("ssh-keygen", "-lf", public).split()[1]
    assert shown in caught.value.message
    assert (caught.value.state, caught.value.transient) == ("failed", False)
    assert caught.value.hint.startswith("compare the fingerprint ")
    command = caught.value.hint.split("Only if they agree: ")[1]
    run_tool("sh", "-c", command)
    assert say(ssh_server.settings(known_hosts=str(known))) == b"hello\n"


def test_a_changed_host_key_is_refused_with_the_way_out(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """Both fingerprints are shown, and the commands that are offered really mend it."""
    other = make_key(tmp_path / "other").with_name("other.pub").read_text()
    known = tmp_path / "known"
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {other}")
    with pytest.raises(HostKeyChangedError) as caught:
        say(ssh_server.settings(known_hosts=str(known)))

    old = find_keys((known,), f"[127.0.0.1]:{ssh_server.port}")[0]
    new = find_keys((ssh_server.known_hosts,), f"[127.0.0.1]:{ssh_server.port}")[0]
    assert fingerprint(old.blob) in caught.value.message
    assert fingerprint(new.blob) in caught.value.message
    command = caught.value.hint.split("Only if they agree: ")[1]
    run_tool("sh", "-c", command)
    assert say(ssh_server.settings(known_hosts=str(known))) == b"hello\n"


def test_a_revoked_host_key_is_refused(ssh_server: SshServer, tmp_path: Path) -> None:
    """A key marked as revoked is refused although another line knows it."""
    line = ssh_server.known_hosts.read_text()
    known = tmp_path / "known"
    known.write_text(f"{line}@revoked * {' '.join(line.split()[1:])}\n")

    with pytest.raises(HostKeyChangedError, match="revoked"):
        say(ssh_server.settings(known_hosts=str(known)))


def test_a_hashed_known_host_is_recognised(ssh_server: SshServer, tmp_path: Path) -> None:
    """The names in known_hosts may be hashed, as Debian does it."""
    known = tmp_path / "known"
    known.write_text(ssh_server.known_hosts.read_text())
    run_tool("ssh-keygen", "-q", "-H", "-f", str(known))

    assert "127.0.0.1" not in known.read_text()
    assert say(ssh_server.settings(known_hosts=str(known))) == b"hello\n"


def test_a_host_key_alias_is_looked_up_without_a_port(
    ssh_server: SshServer, tmp_path: Path
) -> None:
    """HostKeyAlias replaces host and port in known_hosts."""
    known = tmp_path / "known"
    known.write_text("the-pi " + ssh_server.known_hosts.read_text().split(" ", 1)[1])
    settings = ssh_server.settings(known_hosts=str(known), host_key_alias="the-pi")

    assert say(settings) == b"hello\n"


def test_a_host_known_by_its_rsa_key_is_asked_for_that_key(tmp_path: Path) -> None:
    """Where several host keys exist, the server is asked for the type that is known."""
    folder = tmp_path / "server"
    folder.mkdir()
    rsa = make_key(folder / "rsa_key", kind="rsa")
    with SshServer(folder, config=[f"HostKey {rsa}"]) as server:
        kind, blob = rsa.with_name("rsa_key.pub").read_text().split()[:2]
        server.known_hosts.write_text(f"[127.0.0.1]:{server.port} {kind} {blob}\n")

        assert say(server.settings()) == b"hello\n"


def test_a_refused_key_is_named_with_its_fingerprint(ssh_server: SshServer, tmp_path: Path) -> None:
    """The message says which keys were tried; it is no use to try again."""
    key = make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationError, match="stranger") as caught:
        say(ssh_server.settings(identity_file=str(key)))

    assert "SHA256:" in caught.value.message
    assert "ssh-copy-id" in caught.value.hint
    assert (caught.value.state, caught.value.transient) == ("failed", False)


@pytest.mark.parametrize("form", [[], ["-m", "PEM"]])
def test_a_locked_key_without_agent_is_explained(
    ssh_server: SshServer, tmp_path: Path, form: list[str]
) -> None:
    """A key with a passphrase is named as such, and the passphrase's owner is told of ssh-add."""
    key = tmp_path / "locked"
    run_tool("ssh-keygen", "-q", "-t", "rsa", *form, "-N", "secret-word", "-f", str(key))

    with pytest.raises(AuthenticationError, match="needs a passphrase") as caught:
        say(ssh_server.settings(identity_file=str(key)))

    assert "ssh-add" in caught.value.hint
    assert "secret-word" not in caught.value.message + caught.value.hint


def test_a_locked_key_in_the_agent_lets_us_in(
    ssh_server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent signs for a key whose file is locked, also under IdentitiesOnly."""
    key = make_key(tmp_path / "locked", passphrase="secret-word")  # noqa: S106 - of a key made for the run
    ssh_server.authorize(key)
    with an_agent(tmp_path, key) as path:
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        assert say(ssh_server.settings(identity_file=str(key))) == b"hello\n"
        assert say(ssh_server.settings(identity_file="none", identities_only=False)) == b"hello\n"


def test_an_agent_that_is_gone_does_no_harm(
    ssh_server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale SSH_AUTH_SOCK leaves the key files to try."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))

    assert say(ssh_server.settings()) == b"hello\n"


def test_a_server_that_tires_of_our_keys_is_explained(tmp_path: Path, ssh_home: Path) -> None:
    """Too many refused keys lead to the advice to name the right one."""
    with SshServer(tmp_path / "server", config=["MaxAuthTries 2"]) as server:
        keys = [make_key(tmp_path / f"key{number}") for number in range(4)]
        lines = [f"IdentityFile {key}" for key in keys]
        (ssh_home / "config").write_text(
            f"Host pi\n  HostName 127.0.0.1\n  Port {server.port}\n"
            f"  UserKnownHostsFile {server.known_hosts}\n  " + "\n  ".join(lines)
        )

        with pytest.raises(AuthenticationError, match="hung up") as caught:
            say(HostSettings(host="pi"))

    assert "IdentitiesOnly" in caught.value.hint


def test_a_port_where_nobody_listens_is_refused(ssh_server: SshServer) -> None:
    """Refused is unreachable: it may be better soon."""
    with pytest.raises(ConnectRefusedError) as caught:
        say(ssh_server.settings(port=free_port()))

    assert (caught.value.state, caught.value.transient) == ("unreachable", True)


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x" * 70 + ".invalid"])
def test_a_name_without_address_is_not_found(ssh_server: SshServer, name: str) -> None:
    """A name that cannot be resolved is said so, also one that no resolver would accept."""
    with pytest.raises(HostNotFoundError, match="has no address") as caught:
        say(ssh_server.settings(host=name))

    assert (caught.value.state, caught.value.transient) == ("unreachable", True)


def test_a_server_that_never_speaks_is_given_up(ssh_server: SshServer) -> None:
    """A port that accepts and stays silent costs the connect timeout, not for ever."""
    began = time.monotonic()
    with answering(lambda _: None) as port, pytest.raises(ConnectTimeoutError):
        say(ssh_server.settings(port=port, connect_timeout_s=0.5))

    assert time.monotonic() - began < 3


def test_a_server_that_stops_in_mid_handshake_is_given_up(ssh_server: SshServer) -> None:
    """A banner and then silence is a timeout too."""
    with (
        answering(lambda client: client.sendall(b"SSH-2.0-Stuck\r\n")) as port,
        pytest.raises(ConnectTimeoutError),
    ):
        say(ssh_server.settings(port=port, connect_timeout_s=0.5))


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 mail ESMTP\r\n", bytes(range(256)) * 40 + b"\n"],
)
def test_what_is_not_ssh_is_quoted(ssh_server: SshServer, garbage: bytes) -> None:
    """Another protocol at the port is named by its first bytes, and not retried."""

    def answer(client: socket.socket) -> None:
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)

    with answering(answer) as port, pytest.raises(SshProtocolError) as caught:
        say(ssh_server.settings(port=port, connect_timeout_s=0.5))

    assert repr(garbage[:8])[2:-1] in caught.value.message
    assert not caught.value.transient


def test_a_server_that_hangs_up_at_once_is_unreachable(ssh_server: SshServer) -> None:
    """Overload and address blocks look like this, so trying again may help."""
    with (
        answering(lambda client: client.shutdown(socket.SHUT_RDWR)) as port,
        pytest.raises(ConnectionLostError, match="before any login"),
    ):
        say(ssh_server.settings(port=port))


def test_an_overloaded_server_is_unreachable(ssh_server: SshServer) -> None:
    """What sshd says instead of a banner when it is full is no foreign protocol."""

    def answer(client: socket.socket) -> None:
        client.sendall(b"Exceeded MaxStartups\r\n")
        client.shutdown(socket.SHUT_RDWR)

    with answering(answer) as port, pytest.raises(ConnectionLostError, match="MaxStartups"):
        say(ssh_server.settings(port=port))


def test_a_failed_handshake_leaves_no_thread(ssh_server: SshServer) -> None:
    """A daemon that tries every few minutes must not gather threads."""
    before = threading.active_count()

    def answer(client: socket.socket) -> None:
        client.sendall(b"SSH-2.0-Stuck\r\n")
        client.shutdown(socket.SHUT_RDWR)

    with answering(answer) as port, pytest.raises(ConnectionLostError):
        say(ssh_server.settings(port=port, connect_timeout_s=30.0))

    wait_until(lambda: threading.active_count() <= before, "the threads to end")


def run_error(settings: HostSettings, script: str, error: type[GymdbdError]) -> GymdbdError:
    """Run a shell script over there, read its stdout to the end, return the error it ends in."""
    with pytest.raises(error) as caught, ssh.connect(ssh.resolve(settings)) as connection:
        read_all(connection.run(["sh", "-c", script]))
    return caught.value


def test_a_command_that_is_silent_for_too_long_is_given_up(ssh_server: SshServer) -> None:
    """Reading ends after the stall timeout without a byte."""
    began = time.monotonic()
    error = run_error(
        ssh_server.settings(stall_timeout_s=0.5), "echo begun; sleep 20", StalledError
    )

    assert (error.state, error.transient) == ("unreachable", True)
    assert time.monotonic() - began < 5


def test_a_link_that_stops_forwarding_is_given_up_while_reading(ssh_server: SshServer) -> None:
    """A connection that stands but carries nothing any more is noticed by lack of progress."""
    with Relay(ssh_server.port, stall_after=300_000) as relay:
        settings = ssh_server.settings(
            port=relay.port, host_key_alias=f"[127.0.0.1]:{ssh_server.port}", stall_timeout_s=0.7
        )
        began = time.monotonic()

        run_error(settings, "cat /dev/zero", StalledError)

        assert time.monotonic() - began < 10


def test_a_link_that_stops_forwarding_is_given_up_while_writing(ssh_server: SshServer) -> None:
    """Writing does not wait for ever for a peer that takes nothing."""
    with Relay(ssh_server.port) as relay:
        settings = ssh_server.settings(
            port=relay.port, host_key_alias=f"[127.0.0.1]:{ssh_server.port}", stall_timeout_s=0.7
        )
        with ssh.connect(ssh.resolve(settings)) as connection:
            channel = connection.run(["sh", "-c", "cat >/dev/null"])
            channel.writer.write(b"x")
            relay.stall()
            with pytest.raises(StalledError):
                channel.writer.write(bytes(1 << 26))


def test_a_link_that_is_cut_is_lost_and_not_an_end_of_file(ssh_server: SshServer) -> None:
    """A half transfer never looks like a whole one."""
    with Relay(ssh_server.port, cut_after=300_000) as relay:
        settings = ssh_server.settings(
            port=relay.port, host_key_alias=f"[127.0.0.1]:{ssh_server.port}"
        )

        error = run_error(settings, "head -c 10000000 /dev/zero", ConnectionLostError)

    assert (error.state, error.transient) == ("unreachable", True)


def test_a_link_cut_anywhere_is_an_error_of_ours(ssh_server: SshServer) -> None:
    """Banner, key exchange, login, answer: wherever it breaks, the host counts as unreachable."""

    def say_through(relay: Relay) -> bytes:
        name = f"[127.0.0.1]:{ssh_server.port}"
        return say(ssh_server.settings(port=relay.port, host_key_alias=name))

    with Relay(ssh_server.port) as relay:
        assert say_through(relay) == b"hello\n"
        whole = relay.bytes_to_client
    for tenth in range(9):
        cut_after = whole * tenth // 10
        with Relay(ssh_server.port, cut_after=cut_after) as relay:
            with pytest.raises(ConnectionLostError) as caught:
                say_through(relay)
            assert caught.value.state == "unreachable"


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    """Exit 127 becomes an error that says what to install."""
    with (
        SshServer(tmp_path / "server", environment={"PATH": "/nowhere"}) as server,
        ssh.connect(ssh.resolve(server.settings())) as connection,
    ):
        channel = connection.run(["python3", "-"])
        assert channel.reader.read(10) == b""
        error = channel.explain_end()

    assert isinstance(error, CommandMissingError)
    assert "apt install python3" in error.hint


@pytest.mark.parametrize("said", ["No such file", "not found", "Permission denied"])
def test_a_forced_command_that_is_gone_is_not_taken_for_a_missing_python(
    said: str, tmp_path: Path
) -> None:
    """What the shell over there misses is what authorized_keys names, and that is what is told."""
    program = tmp_path / "lib/python3/gymdbd"
    if said == "Permission denied":
        program.parent.mkdir(parents=True)
        program.touch(mode=0o600)
    shell = "bash" if said == "No such file" else "dash"
    forced = f"{shell} -c '{program} serve --database /x'"
    with (
        SshServer(tmp_path / "server", forced_command=forced) as server,
        ssh.connect(ssh.resolve(server.settings())) as connection,
    ):
        channel = connection.run(["python3", "-"])
        assert channel.reader.read(10) == b""
        error = channel.explain_end()

    assert isinstance(error, CommandMissingError)
    assert f"{program}: " in error.message
    assert said in error.message
    assert "gymdbd authorize" in error.hint
    assert "apt" not in error.hint


def test_a_command_that_ends_early_is_quoted(ssh_server: SshServer) -> None:
    """Writing to a command that is gone fails, and then it says how it ended and what it said."""
    with ssh.connect(ssh.resolve(ssh_server.settings())) as connection:
        channel = connection.run(["sh", "-c", "echo out of cheese >&2; exit 3"])
        with pytest.raises(BrokenPipeError):
            channel.writer.write(bytes(1 << 26))
        error = channel.explain_end()
    assert isinstance(error, RemoteCommandError)
    assert re.search(r"status 3.*out of cheese", error.message)


def test_a_killed_command_is_told_from_an_ended_one(ssh_server: SshServer) -> None:
    """A signal leaves no exit status, and the error says so."""
    with ssh.connect(ssh.resolve(ssh_server.settings())) as connection:
        channel = connection.run(["sh", "-c", "kill -KILL $$"])
        assert read_all(channel) == b""
        assert "killed by a signal" in channel.explain_end().message


def test_noise_on_stderr_neither_blocks_nor_is_kept(ssh_server: SshServer) -> None:
    """50 MB on stderr before anything on stdout: only the end of it is remembered."""
    script = "head -c 50000000 /dev/zero | tr '\\0' x >&2; echo last words >&2; echo done"
    with ssh.connect(ssh.resolve(ssh_server.settings())) as connection:
        channel = connection.run(["sh", "-c", script])

        assert read_all(channel) == b"done\n"
        assert channel.stderr_tail().endswith("last words")
        assert len(channel.stderr_tail()) <= 8192
        assert channel.exit_status() == 0


def test_noise_of_the_remote_shell_arrives_before_the_commands_own_bytes(tmp_path: Path) -> None:
    """What start-up files print is passed on as it is, for the protocol to recognise."""
    # bash reads it when sshd starts it, whatever is to be run.
    (tmp_path / ".bashrc").write_text("echo 'Welcome to the Pi!'\n")
    with SshServer(tmp_path / "server", environment={"HOME": str(tmp_path)}) as server:
        assert say(server.settings()) == b"Welcome to the Pi!\nhello\n"


def test_a_forced_command_is_run_instead_of_ours(tmp_path: Path) -> None:
    """Through a restricted key only the server's own command runs, and SFTP does not."""
    with SshServer(tmp_path / "server", forced_command='echo "forced: $0"; cat') as server:
        with ssh.connect(ssh.resolve(server.settings())) as connection:
            channel = connection.run(["rm", "-rf", "/nowhere"])
            channel.writer.write(b"over stdin")
            channel.writer.close()
            assert read_all(channel).endswith(b"over stdin")
        with (
            pytest.raises(ChannelRefusedError, match="SFTP"),
            ssh.connect(ssh.resolve(server.settings())) as connection,
            connection.sftp(),
        ):
            pass


def test_binary_data_comes_back_as_it_went(ssh_server: SshServer) -> None:
    """Eight megabytes of every byte go through `cat` and back while both sides are busy."""
    data = os.urandom(1 << 20) * 8
    with ssh.connect(ssh.resolve(ssh_server.settings())) as connection:
        channel = connection.run(["cat"])

        def feed() -> None:
            channel.writer.write(data)
            channel.writer.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        back = read_all(channel)
        feeder.join()

        assert back == data
        assert connection.bytes_sent > len(data)
        assert connection.bytes_received > len(data)


def test_a_stop_ends_the_waiting(ssh_server: SshServer) -> None:
    """What `check` raises comes through while a silent command is waited for."""
    began = time.monotonic()

    def check() -> None:
        if time.monotonic() - began > 1:
            raise StoppedError("asked to stop")

    with (
        pytest.raises(StoppedError),
        ssh.connect(ssh.resolve(ssh_server.settings()), check=check) as connection,
    ):
        connection.run(["sleep", "20"]).reader.read(1)

    assert time.monotonic() - began < 5
