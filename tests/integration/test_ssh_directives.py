"""What `ssh HOST` reaches with the files of OpenSSH as they are, gymdbd reaches: by directive."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from gymdbd.remote.errors import (
    AuthenticationError,
    ConnectRefusedError,
    HostKeyChangedError,
    HostKeyUnknownError,
    HostNotFoundError,
    SshConfigError,
    SshProtocolError,
)
from gymdbd.remote.ssh import ssh, ssh_config
from gymdbd.remote.ssh.target import HostSettings
from tests.support.command import gymdbd
from tests.support.databases import make_database
from tests.support.jobs import write_config
from tests.support.sshd import SshServer, an_agent, make_key, run_tool, wait_until
from tests.support.zones import own_etc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("ssh_home")


def configure(home: Path, server: SshServer, *lines: str) -> None:
    """Write a `~/.ssh/config` in which `pi` is the server, and nothing else is said but these."""
    block = ["Host pi", "HostName 127.0.0.1", f"Port {server.port}", *lines, ""]
    (home / "config").write_text("\n  ".join(block))


def usual(server: SshServer) -> tuple[str, str]:
    """Return the lines for the key that is let in and for the file that knows the server."""
    return f"IdentityFile {server.user_key}", f"UserKnownHostsFile {server.known_hosts}"


def openssh(home: Path) -> bool:
    """Say whether OpenSSH gets in to `pi` without asking anybody."""
    words = ["-F", str(home / "config"), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
    done = subprocess.run(["ssh", *words, "pi", "true"], check=False, capture_output=True)
    return done.returncode == 0


def say(**settings: object) -> bytes:
    """Connect to `pi`, run `echo` over there, and return what it says."""
    goal = ssh.resolve(HostSettings(**{"host": "pi", **settings}))  # type: ignore[arg-type]
    with ssh.connect(goal) as connection:
        channel = connection.run(["echo", "hello"])
        return b"".join(iter(lambda: channel.reader.read(65536), b""))


def assert_reached(home: Path) -> None:
    """Hold that OpenSSH and gymdbd both get in."""
    assert openssh(home)
    assert say() == b"hello\n"


def certify(authority: Path, key: Path, *words: str) -> Path:
    """Sign a key with the key of an authority and return the certificate."""
    run_tool("ssh-keygen", "-q", "-s", str(authority), "-I", "x", *words, f"{key}.pub")
    return key.with_name(f"{key.name}-cert.pub")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the key of an authority that users are certified by."""
    return make_key(tmp_path_factory.mktemp("authority") / "authority")


@pytest.fixture(scope="module")
def certifying(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[SshServer]:
    """Run a server that lets in whom the authority has certified."""
    folder = tmp_path_factory.mktemp("certifying")
    with SshServer(folder, config=[f"TrustedUserCAKeys {authority}.pub"]) as server:
        yield server


class TestKeys:
    """Which keys are offered."""

    @pytest.mark.parametrize("said", ["PATH", "SSH_AUTH_SOCK", "$OTHER", "%d/agent"])
    def test_the_agent_is_the_one_that_is_named(
        self,
        said: str,
        ssh_server: SshServer,
        ssh_home: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """IdentityAgent is a path, with tokens, or a variable that holds one."""
        with an_agent(tmp_path, ssh_server.user_key) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK" if said == "SSH_AUTH_SOCK" else "OTHER", path)
            (ssh_home.parent / "agent").symlink_to(path)
            agent = said.replace("PATH", path).replace("%d", str(ssh_home.parent))
            known = usual(ssh_server)[1]
            configure(ssh_home, ssh_server, f"IdentityAgent {agent}", "IdentityFile none", known)
            assert_reached(ssh_home)

    def test_no_agent_is_asked_where_none_is_wanted(
        self,
        ssh_server: SshServer,
        ssh_home: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """IdentityAgent none."""
        with an_agent(tmp_path, ssh_server.user_key) as path:
            monkeypatch.setenv("SSH_AUTH_SOCK", path)
            configure(ssh_home, ssh_server, "IdentityAgent none", usual(ssh_server)[1])
            assert not openssh(ssh_home)
            with pytest.raises(AuthenticationError, match="keys tried: none"):
                say()

    @pytest.mark.parametrize("named", ["user_key.pub", "user_key", "locked"])
    def test_a_key_that_only_the_agent_has_is_found_by_its_public_half(
        self, named: str, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """In the file that is named, in the one beside it, or in front of what is locked."""
        locked = make_key(tmp_path / "locked", passphrase="secret-word")  # noqa: S106 - of a key made for the run
        ssh_server.authorize(locked)
        locked.with_name("locked.pub").unlink()
        for name in ("user_key.pub", "user_key"):
            if name.startswith(named):
                shutil.copy(ssh_server.folder / "user_key.pub", tmp_path / "user_key.pub")
        with an_agent(tmp_path, ssh_server.user_key, locked) as path:
            configure(
                ssh_home,
                ssh_server,
                *("IdentitiesOnly yes", f"IdentityFile {tmp_path / named}"),
                *(f"IdentityAgent {path}", usual(ssh_server)[1]),
            )
            assert_reached(ssh_home)

    def test_a_public_key_without_its_private_one_is_explained(
        self, ssh_server: SshServer, ssh_home: Path
    ) -> None:
        """It is what the agent was to be asked for."""
        key, known = f"IdentityFile {ssh_server.user_key}.pub", usual(ssh_server)[1]
        configure(ssh_home, ssh_server, key, known)
        with pytest.raises(AuthenticationError, match="is a public key, and the agent does not"):
            say()

    def test_the_names_that_are_guessed_come_after_the_agents_keys(
        self, ssh_home: Path, tmp_path: Path
    ) -> None:
        """A server counts what it refuses, and here it takes the third key no more."""
        with SshServer(tmp_path / "server", config=["MaxAuthTries 2"]) as server:
            for name in ("id_rsa", "id_ecdsa", "id_ed25519"):
                make_key(ssh_home / name)
            with an_agent(tmp_path, server.user_key) as path:
                configure(ssh_home, server, f"IdentityAgent {path}", usual(server)[1])
                assert say() == b"hello\n"

    @pytest.mark.parametrize("name", ["%d/.ssh/%n-%r-%p", "${KEYS}/.ssh/pi"])
    def test_names_of_files_hold_tokens_and_variables(
        self, name: str, ssh_server: SshServer, ssh_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`ssh -G` leaves those of an IdentityFile as they are."""
        monkeypatch.setenv("KEYS", str(ssh_home.parent))
        for key in ("pi", f"pi-root-{ssh_server.port}"):
            shutil.copy(ssh_server.user_key, ssh_home / key)
        # OpenSSH takes the home for %d from the account, whatever HOME says.
        configure(ssh_home, ssh_server, f"IdentityFile {name}", usual(ssh_server)[1])
        assert say() == b"hello\n"

    def test_a_certificate_is_offered_with_its_key(
        self, certifying: SshServer, authority: Path, ssh_home: Path, tmp_path: Path
    ) -> None:
        """CertificateFile names it; the key may be in a file or only in the agent."""
        key = make_key(tmp_path / "mine")
        shutil.move(certify(authority, key, "-n", "root"), tmp_path / "elsewhere.pub")
        lines = (f"CertificateFile {tmp_path / 'elsewhere.pub'}", usual(certifying)[1])
        configure(ssh_home, certifying, f"IdentityFile {key}", *lines)
        assert_reached(ssh_home)

        with an_agent(tmp_path, key) as path:
            key.unlink()
            configure(ssh_home, certifying, f"IdentityAgent {path}", *lines)
            assert_reached(ssh_home)

    def test_a_certificate_in_the_agent_is_offered(
        self, certifying: SshServer, authority: Path, ssh_home: Path, tmp_path: Path
    ) -> None:
        """The agent takes up what lies beside the key when that is added."""
        for kind in ("ed25519", "rsa"):
            key = make_key(tmp_path / kind, kind=kind)
            certify(authority, key, "-n", "root")
            with an_agent(tmp_path, key) as path:
                configure(ssh_home, certifying, f"IdentityAgent {path}", usual(certifying)[1])
                assert_reached(ssh_home)

    def test_a_certificate_beside_the_key_does_not_hide_the_key(
        self, certifying: SshServer, authority: Path, ssh_home: Path, tmp_path: Path
    ) -> None:
        """It may be good for a login, and it may have expired."""
        key = make_key(tmp_path / "mine")
        configure(ssh_home, certifying, f"IdentityFile {key}", usual(certifying)[1])
        certify(authority, key, "-n", "root")
        assert_reached(ssh_home)

        certify(authority, key, "-n", "root", "-V", "20200101:20200102")
        assert not openssh(ssh_home)
        certifying.authorize(key)
        assert_reached(ssh_home)

    def test_a_server_that_wants_two_keys_gets_two(self, ssh_home: Path, tmp_path: Path) -> None:
        """AuthenticationMethods of the server; one of them is not enough, and that is told."""
        wanted = ["AuthenticationMethods publickey,publickey"]
        with SshServer(tmp_path / "server", config=wanted) as server:
            second = make_key(tmp_path / "second")
            configure(ssh_home, server, *usual(server), f"IdentityFile {second}")
            with pytest.raises(AuthenticationError, match="a key is good, and it also wants"):
                say()
            server.authorize(second)
            assert_reached(ssh_home)

    @pytest.mark.skipif(os.geteuid() != 0, reason="an account without a password needs root")
    def test_a_server_that_wants_no_key_gets_none(self, ssh_home: Path, tmp_path: Path) -> None:
        """As that of Tailscale, which knows from whom the network's packets come."""
        etc, prefix = own_etc(tmp_path)
        (etc / "shadow").write_text("root::20000:0:99999:7:::\n")
        lines = ["PermitRootLogin yes", "PermitEmptyPasswords yes", "PasswordAuthentication yes"]
        with SshServer(tmp_path / "server", config=lines, prefix=prefix) as server:
            configure(ssh_home, server, "IdentityFile none", usual(server)[1])
            assert_reached(ssh_home)

    def test_a_login_that_takes_more_than_keys_is_explained(
        self, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """OpenSSH may get in over a connection that stands, say."""
        key = make_key(tmp_path / "stranger")
        lines = (f"ControlPath {tmp_path}/master", "GSSAPIAuthentication yes")
        known = usual(ssh_server)[1]
        configure(ssh_home, ssh_server, f"IdentityFile {key}", known, *lines)
        with pytest.raises(AuthenticationError) as caught:
            say()
        assert "does not use ControlPath and GSSAPIAuthentication" in caught.value.hint

    def test_kinds_of_keys_that_are_not_to_be_used_are_left_out(
        self, ssh_server: SshServer, ssh_home: Path
    ) -> None:
        """PubkeyAcceptedAlgorithms."""
        line = "PubkeyAcceptedAlgorithms rsa-sha2-512"
        configure(ssh_home, ssh_server, line, *usual(ssh_server))
        assert not openssh(ssh_home)
        with pytest.raises(AuthenticationError, match="not among PubkeyAcceptedAlgorithms"):
            say()


class TestHostKeys:
    """How the host is recognised."""

    def test_every_file_of_the_lists_is_read(
        self, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """UserKnownHostsFile and GlobalKnownHostsFile, names with spaces too."""
        spaced = tmp_path / "known hosts"
        shutil.copy(ssh_server.known_hosts, spaced)
        key = usual(ssh_server)[0]
        for user, everybody in ((f'/nowhere "{spaced}"', "none"), ("none", f"/nowhere {spaced}")):
            everybody = everybody.replace(str(spaced), f'"{spaced}"')  # noqa: PLW2901
            lines = (f"UserKnownHostsFile {user}", f"GlobalKnownHostsFile {everybody}")
            configure(ssh_home, ssh_server, key, *lines)
            assert_reached(ssh_home)

    @pytest.mark.parametrize("hashed", [False, True])
    def test_an_entry_without_a_port_is_good_for_every_port(
        self, ssh_server: SshServer, ssh_home: Path, tmp_path: Path, *, hashed: bool
    ) -> None:
        """Unless there is one with the port that says otherwise."""
        known = tmp_path / "known"
        entry = ssh_server.known_hosts.read_text().split(" ", 1)[1]
        known.write_text(f"127.0.0.1 {entry}")
        if hashed:
            run_tool("ssh-keygen", "-q", "-H", "-f", str(known))
        configure(ssh_home, ssh_server, usual(ssh_server)[0], f"UserKnownHostsFile {known}")
        assert_reached(ssh_home)

        other = make_key(tmp_path / "other").with_name("other.pub").read_text()
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{ssh_server.port} {other}")
        assert not openssh(ssh_home)
        with pytest.raises(HostKeyChangedError):
            say()

    @pytest.mark.parametrize(
        "line",
        [
            *("StrictHostKeyChecking no", "StrictHostKeyChecking accept-new"),
            *("NoHostAuthenticationForLocalhost yes", "KnownHostsCommand /bin/true"),
        ],
    )
    def test_what_would_let_an_unknown_host_pass_does_not(
        self, line: str, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """The message says that it is set, and does not count."""
        known = f"UserKnownHostsFile {tmp_path / 'known'}"
        configure(ssh_home, ssh_server, usual(ssh_server)[0], known, line)
        with pytest.raises(HostKeyUnknownError, match=line.split(maxsplit=1)[0]):
            say()

    def test_an_alias_for_the_host_key_comes_from_the_file(
        self, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """HostKeyAlias."""
        known = tmp_path / "known"
        known.write_text("the-pi " + ssh_server.known_hosts.read_text().split(" ", 1)[1])
        lines = (usual(ssh_server)[0], f"UserKnownHostsFile {known}", "HostKeyAlias the-pi")
        configure(ssh_home, ssh_server, *lines)
        assert_reached(ssh_home)

    @pytest.mark.parametrize("form", ["list", "binary"])
    def test_a_key_that_a_list_revokes_is_refused(
        self, form: str, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """RevokedHostKeys, of either form; other keys in it do no harm."""
        revoked, other = tmp_path / "revoked", make_key(tmp_path / "other")
        lines = (*usual(ssh_server), f"RevokedHostKeys {revoked}")
        configure(ssh_home, ssh_server, *lines)
        for key, good in ((other, True), (ssh_server.host_key, False)):
            public = key.with_name(f"{key.name}.pub")
            if form == "list":
                shutil.copy(public, revoked)
            else:
                run_tool("ssh-keygen", "-q", "-k", "-f", str(revoked), str(public))
            assert openssh(ssh_home) == good
            if good:
                assert say() == b"hello\n"
        with pytest.raises(HostKeyChangedError, match="revoked"):
            say()

    def test_the_kind_of_host_key_that_is_wanted_is_asked_for(
        self, ssh_home: Path, tmp_path: Path
    ) -> None:
        """HostKeyAlgorithms, although another kind is known as well."""
        folder = tmp_path / "server"
        folder.mkdir()
        rsa = make_key(folder / "rsa_key", kind="rsa")
        with SshServer(folder, config=[f"HostKey {rsa}"]) as server:
            configure(ssh_home, server, *usual(server), "HostKeyAlgorithms rsa-sha2-512")
            with pytest.raises(HostKeyUnknownError, match="shows the ssh-rsa key"):
                say()


class TestHostCertificates:
    """An authority vouches for the host."""

    @pytest.mark.parametrize(
        ("kind", "name"), [("ed25519", "127.0.0.1"), ("ecdsa", "the-pi"), ("rsa", "127.0.0.1")]
    )
    def test_a_certified_host_is_recognised(
        self, kind: str, name: str, ssh_home: Path, tmp_path: Path
    ) -> None:
        """By the authority's key, whatever its kind; the certificate is for the name, or alias."""
        authority = make_key(tmp_path / "authority", kind=kind)
        with certified(tmp_path, authority, "-n", f"other,{name}") as server:
            alias = ["HostKeyAlias the-pi"] if name == "the-pi" else []
            configure(ssh_home, server, *usual(server), *alias)
            assert_reached(ssh_home)

    def test_a_certificate_may_be_for_a_pattern_of_names(
        self, ssh_home: Path, tmp_path: Path
    ) -> None:
        """As the newest releases of OpenSSH have it; those before take it for a name."""
        with certified(tmp_path, make_key(tmp_path / "authority"), "-n", "127.0.?.*") as server:
            configure(ssh_home, server, *usual(server))
            assert say() == b"hello\n"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["-n", "127.0.0.1", "-V", "20200101:20200102"], "not valid at this time"),
            (["-n", "other"], "it is for other, not for 127.0.0.1"),
        ],
    )
    def test_a_certificate_that_does_not_hold_is_refused(
        self, words: list[str], said: str, ssh_home: Path, tmp_path: Path
    ) -> None:
        """Unless the key itself is known as well."""
        authority = make_key(tmp_path / "authority")
        with certified(tmp_path, authority, *words) as server:
            configure(ssh_home, server, *usual(server))
            assert not openssh(ssh_home)
            with pytest.raises(HostKeyUnknownError, match=said):
                say()

            entry = server.host_key.with_name("host_key.pub").read_text()
            with server.known_hosts.open("a") as file:
                file.write(f"127.0.0.1 {entry}")
            assert_reached(ssh_home)

    def test_a_certificate_of_another_authority_is_refused(
        self, ssh_home: Path, tmp_path: Path
    ) -> None:
        """And one of an authority that is revoked, and the key without a certificate."""
        authority = make_key(tmp_path / "authority")
        stranger = make_key(tmp_path / "stranger").with_name("stranger.pub").read_text()
        with certified(tmp_path, authority, "-n", "127.0.0.1") as server:
            configure(ssh_home, server, *usual(server))
            good = server.known_hosts.read_text()
            for known in (
                f"@cert-authority * {stranger}",
                f"{good}@revoked * {authority.with_name('authority.pub').read_text()}",
            ):
                server.known_hosts.write_text(known)
                assert not openssh(ssh_home)
                with pytest.raises(HostKeyUnknownError):
                    say()

    def test_a_host_without_its_certificate_is_told_of(
        self, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """The message says what known_hosts has, and that the host does not show it."""
        known = tmp_path / "known"
        known.write_text(f"@cert-authority * {ssh_server.known_hosts.read_text().split(' ', 1)[1]}")
        configure(ssh_home, ssh_server, usual(ssh_server)[0], f"UserKnownHostsFile {known}")
        with pytest.raises(
            HostKeyUnknownError, match=r"@cert-authority .* it shows no certificate"
        ):
            say()


@contextlib.contextmanager
def certified(tmp_path: Path, authority: Path, *words: str) -> Iterator[SshServer]:
    """Run a server with a certificate, known by its authority alone."""
    server = SshServer(
        tmp_path / "server", config=[f"HostCertificate {tmp_path}/server/host_key-cert.pub"]
    )
    certify(authority, server.host_key, "-h", *words)
    public = authority.with_name(f"{authority.name}.pub").read_text()
    server.known_hosts.write_text(f"@cert-authority 127.0.0.1,the-pi {public}")
    with server:
        yield server


class TestWay:
    """How the bytes get there."""

    def test_a_proxy_command_is_the_shells(self, ssh_server: SshServer, ssh_home: Path) -> None:
        """Pipes, redirections, quotes and variables work as in `ssh`; its end is ours as well."""
        program = ssh_home / "relay.py"
        program.write_text(
            "import socket,sys,threading,os\n"
            "s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
            "def up():\n"
            "    while (d:=os.read(0,65536)): s.sendall(d)\n"
            "threading.Thread(target=up,daemon=True).start()\n"
            "while (d:=s.recv(65536)): os.write(1,d)\n"
        )
        mark = ssh_home / "pid"
        (ssh_home / "way").write_text(
            # What takes no notice of a request to end is ended as well.
            f"(trap '' TERM; exec sleep 60) & echo $! >{mark}; exec python3 {program} $1 $2\n"
        )
        command = "sh $HOME/.ssh/way %h %p 2>/dev/null"
        configure(ssh_home, ssh_server, f"ProxyCommand {command}", *usual(ssh_server))
        assert say() == b"hello\n"
        wait_until(lambda: not os.path.exists(f"/proc/{mark.read_text().strip()}"), "its end")  # noqa: PTH110
        assert openssh(ssh_home)
        run_tool("kill", "-9", mark.read_text().strip())

    def test_the_family_of_addresses_is_the_one_that_is_wanted(
        self, ssh_server: SshServer, ssh_home: Path
    ) -> None:
        """AddressFamily, for a name that has addresses of both."""
        lines = usual(ssh_server)
        (ssh_home / "config").write_text(
            f"Host pi\n HostName localhost\n Port {ssh_server.port}\n HostKeyAlias "
            f"[127.0.0.1]:{ssh_server.port}\n {lines[0]}\n {lines[1]}\n AddressFamily inet\n"
        )
        assert_reached(ssh_home)
        text = (ssh_home / "config").read_text()
        (ssh_home / "config").write_text(text.replace("inet", "inet6"))
        assert not openssh(ssh_home)
        with pytest.raises((ConnectRefusedError, HostNotFoundError)):
            say()

    def test_the_address_on_this_side_is_the_one_that_is_wanted(
        self, ssh_server: SshServer, ssh_home: Path
    ) -> None:
        """BindAddress, as the server sees it."""
        configure(ssh_home, ssh_server, *usual(ssh_server), "BindAddress 127.0.0.77")
        assert say() == b"hello\n"
        assert "Connection from 127.0.0.77" in ssh_server.log()

    def test_times_come_from_the_file_where_ours_are_not_set(self, ssh_home: Path) -> None:
        """ConnectTimeout and ServerAliveInterval."""
        (ssh_home / "config").write_text("Host pi\n ConnectTimeout 3\n ServerAliveInterval 7\n")
        said, own, usually = (
            ssh.resolve(HostSettings(host="pi")),
            ssh.resolve(HostSettings(host="pi", connect_timeout_s=1.5, keepalive_s=2.5)),
            ssh.resolve(HostSettings(host="laptop")),
        )
        found = [(goal.connect_timeout_s, goal.keepalive_s) for goal in (said, own, usually)]
        assert found == [(3, 7), (1.5, 2.5), (15, 15)]

    @pytest.mark.parametrize(
        ("server_side", "client_side"),
        [
            ("KexAlgorithms curve25519-sha256", "KexAlgorithms curve25519-sha256"),
            ("KexAlgorithms ecdh-sha2-nistp384", "KexAlgorithms ecdh-sha2-nistp384"),
            ("MACs hmac-sha2-512", "MACs hmac-sha2-512"),
            ("Ciphers aes192-ctr", "Ciphers +aes192-ctr"),
        ],
    )
    def test_algorithms_are_those_that_are_wanted(
        self, server_side: str, client_side: str, ssh_home: Path, tmp_path: Path
    ) -> None:
        """KexAlgorithms, MACs and Ciphers, of both sides."""
        with SshServer(tmp_path / "server", config=[server_side]) as server:
            configure(ssh_home, server, client_side, *usual(server))
            assert_reached(ssh_home)

    @pytest.mark.parametrize("word", ["KexAlgorithms ecdh-sha2-nistp", "MACs hmac-sha2-"])
    def test_an_algorithm_that_is_not_wanted_is_not_used(
        self, word: str, ssh_home: Path, tmp_path: Path
    ) -> None:
        """Both sides have it, and the file leaves it out."""
        one, other = ("256", "384") if "Kex" in word else ("256", "512")
        lines = [word + one, "Ciphers aes256-ctr"]
        with SshServer(tmp_path / "server", config=lines) as server:
            configure(ssh_home, server, word + other, *usual(server))
            assert not openssh(ssh_home)
            with pytest.raises(SshProtocolError):
                say()

    def test_what_paramiko_does_not_have_is_named(
        self, ssh_server: SshServer, ssh_home: Path
    ) -> None:
        """And what there is instead."""
        line = "Ciphers chacha20-poly1305@openssh.com"
        configure(ssh_home, ssh_server, line, *usual(ssh_server))
        assert openssh(ssh_home)
        with pytest.raises(SshConfigError, match="chacha20") as caught:
            say()
        assert "aes128-gcm@openssh.com" in caught.value.hint


class TestFiles:
    """Which files count."""

    def test_an_option_that_this_ssh_does_not_know_is_named_with_its_line(
        self, ssh_server: SshServer, ssh_home: Path
    ) -> None:
        """Apple's UseKeychain, say; where it may be ignored, it is."""
        configure(ssh_home, ssh_server, "UseKeychain yes", *usual(ssh_server))
        with pytest.raises(SshConfigError) as caught:
            say()
        assert f"{ssh_home}/config: line 4: Bad configuration option: usekeychain" in str(
            caught.value
        )
        assert "IgnoreUnknown UseKeychain" in caught.value.hint

        lines = ("IgnoreUnknown UseKeychain", "UseKeychain yes", *usual(ssh_server))
        configure(ssh_home, ssh_server, *lines)
        assert_reached(ssh_home)

    def test_a_command_that_does_not_end_is_an_error(self, ssh_home: Path) -> None:
        """A pull that waits for it would never say why nothing comes; nor does it stay behind."""
        mark = ssh_home / "pid"
        (ssh_home / "config").write_text(f'Match exec "echo $$ > {mark}; sleep 60"\n Port 1\n')
        with pytest.raises(SshConfigError, match="does not end"):
            ssh_config.ask("pi", timeout_s=1)
        wait_until(lambda: not os.path.exists(f"/proc/{mark.read_text().strip()}"), "its end")  # noqa: PTH110

    @pytest.mark.parametrize("end", ["", " | head -c 3000000"], ids=["endless", "megabytes"])
    def test_what_prints_too_much_is_an_error(
        self, ssh_home: Path, monkeypatch: pytest.MonkeyPatch, end: str
    ) -> None:
        """Half of the settings would be another way to another host; the disk would be full."""
        program = ssh_home / "ssh"
        program.write_text(f"#!/bin/sh\nyes identityfile /x{end}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{ssh_home}:{os.environ['PATH']}")
        with pytest.raises(SshConfigError, match="prints more than") as caught:
            ssh_config.ask("pi", timeout_s=10)
        assert str(program) in caught.value.hint

    @pytest.mark.parametrize("name", ["a\0b", "a\nb", "a\ud800"], ids=ascii)
    def test_a_name_with_a_control_character_is_refused(self, name: str) -> None:
        """No program can be given some of them."""
        for settings in (HostSettings(host=name), HostSettings(host="pi", user=name)):
            with pytest.raises(SshConfigError, match="holds a control character"):
                ssh.resolve(settings)

    def test_a_name_that_would_be_an_option_is_refused(self) -> None:
        """Nothing of it reaches the command line."""
        with pytest.raises(SshConfigError, match="begins with a -"):
            ssh.resolve(HostSettings(host="-oProxyCommand=touch /tmp/x"))

    def test_without_an_ssh_program_our_own_keys_are_enough(
        self, ssh_server: SshServer, ssh_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And a file of OpenSSH that nobody can read is an error."""
        monkeypatch.setenv("PATH", "/nowhere")
        with ssh.connect(ssh.resolve(ssh_server.settings())) as connection:
            assert connection.cipher == "aes128-gcm@openssh.com"

        (ssh_home / "config").write_text("")
        with pytest.raises(SshConfigError, match="no ssh program") as caught:
            ssh.resolve(ssh_server.settings())
        assert "openssh-client" in caught.value.hint

    @pytest.mark.skipif(os.geteuid() != 0, reason="an /etc of its own needs root")
    def test_the_files_of_the_account_and_of_the_machine_are_read(
        self, ssh_server: SshServer, ssh_home: Path, tmp_path: Path
    ) -> None:
        """One says who pi is, the other one how it is recognised."""
        etc, prefix = own_etc(tmp_path)
        home = str(ssh_home.parent)
        lines = (etc / "passwd").read_text().replace("root:/root:", f"root:{home}:")
        (etc / "passwd").write_text(lines)
        (etc / "ssh").mkdir()
        (etc / "ssh" / "ssh_config").write_text(f"Host pi\n {usual(ssh_server)[1]}\n")
        configure(ssh_home, ssh_server, usual(ssh_server)[0])
        job = {
            "kind": "pull",
            "every": "1d",
            "host": "pi",
            "remote_database": str(make_database(tmp_path / "gym.db")),
            "replica": str(tmp_path / "replica.db"),
        }
        done = gymdbd("-c", write_config(tmp_path, {"pull": job}), "pull", prefix=prefix, HOME=home)
        assert (done.returncode, done.stderr) == (0, "")
