"""The line of authorized_keys: what is let through, what is refused, what sshd makes of it."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymdbd.errors import UsageError
from gymdbd.remote.ssh import authorized
from tests.support.sshd import make_key, run_tool

_ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPlMcg9svrsCNZQQMbHXTM6sRTMPqEeXJXNckgBTxmU"


def unquoted_by_sshd(line: str) -> str:
    """Return the value of command="..." as OpenSSH's opt_dequote reads it."""
    rest = line.partition('command="')[2]
    value, position = "", 0
    while rest[position] != '"':
        if rest[position : position + 2] == '\\"':
            position += 1
        value += rest[position]
        position += 1
    assert rest[position + 1] == " "
    return value


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_of_ssh_keygen_is_read_as_it_is(tmp_path: Path, kind: str) -> None:
    """Kind, blob, comment and fingerprint are those that ssh-keygen shows."""
    public = make_key(tmp_path / f"{kind} of 김", kind=kind).with_name(f"{kind} of 김.pub")
    key = authorized.read_key(public.read_text())
    assert f"{key.kind} {key.blob} {key.comment}\n" == public.read_text()
    assert key.comment == f"{kind} of 김"
    assert run_tool("ssh-keygen", "-l", "-f", str(public)).split()[1] == key.fingerprint


def test_lines_without_a_key_and_the_ends_of_windows_are_no_matter() -> None:
    """Comments, empty lines and carriage returns around the one key are passed over."""
    key = authorized.read_key(f"# the Mac's\r\n\r\n  {_ED25519} mac mini\r\n\n")
    assert (key.kind, key.comment) == ("ssh-ed25519", "mac mini")
    assert authorized.line_for("true", key) == f'restrict,command="true" {_ED25519} mac mini'


def test_a_private_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """The error says what it is, and nothing of the file is in it."""
    private = make_key(tmp_path / "key").read_text()
    with pytest.raises(UsageError, match="private key") as caught:
        authorized.read_key(private)
    told = caught.value.message + caught.value.hint
    assert [line for line in private.splitlines() if line in told] == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no public key"),
        ("# only a remark\n", "no public key"),
        (f"{_ED25519}\n{_ED25519} again\n", "2 lines"),
        (f'command="rm -rf /" {_ED25519}', "in front of the key"),
        (f"restrict {_ED25519}", "in front of the key"),
        ("ssh-ed25519", "damaged"),
        (_ED25519[:-8], "damaged"),
        (_ED25519.replace("AAAAC3", "AAAAC4"), "damaged"),
        (_ED25519.replace("ssh-ed25519", "ssh-rsa"), "damaged"),
        (f"ssh-ed25519 !{_ED25519[12:]}", "damaged"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACB", "not a public key of a kind"),
        ("---- BEGIN SSH2 PUBLIC KEY ----", "not a public key of a kind"),
        (f"{_ED25519} mac\x1b[2J", "control characters"),
        ("SQLite format 3\0", "not a public key of a kind"),
    ],
)
def test_what_is_not_one_bare_key_is_refused(text: str, message: str) -> None:
    """Each with its reason and a remedy."""
    with pytest.raises(UsageError, match=message) as caught:
        authorized.read_key(text)
    assert caught.value.hint


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    """1024 bits let nobody in."""
    run_tool("ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", str(tmp_path / "key"))
    with pytest.raises(UsageError, match="1024 bits"):
        authorized.read_key((tmp_path / "key.pub").read_text())


@pytest.mark.parametrize("name", ["two\nlines", "a\tb", "bell\a", "\x9b31m"])
def test_a_path_that_no_line_can_hold_is_refused(name: str) -> None:
    """A control character would end the line, or move the cursor of whoever prints it."""
    with pytest.raises(UsageError, match="control character"):
        authorized.command_for(Path("/opt/gymdbd/bin/gymdbd"), Path("/data") / name)


_NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/"), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))


@given(_NAMES, _NAMES)
def test_whatever_the_paths_sshd_and_the_shell_give_them_back(program: str, database: str) -> None:
    """Unquoted by sshd's rule and then by the shell's, the words are what was meant."""
    key = authorized.read_key(_ED25519)
    paths = Path("/opt") / program, Path("/data") / database
    line = authorized.line_for(authorized.command_for(*paths), key)
    assert line.endswith(f'" {_ED25519}')
    words = shlex.split(unquoted_by_sshd(line))
    assert words == [str(paths[0]), "serve", "--database", str(paths[1])]


def test_a_real_shell_gives_back_the_oddest_path() -> None:
    """One word for sh, whatever quotes, spaces, expansions and broken bytes are in it."""
    odd = Path('/a b/\'"$HOME`id`\\"!*?;&|<>(){}[]~#회원' + os.fsdecode(b"\xff\xfe") + "\\")
    command = authorized.command_for(Path("/bin/echo"), odd)
    words = command.replace("/bin/echo serve --database", "printf '%s'", 1)
    shown = subprocess.run(["sh", "-c", words], capture_output=True, check=True).stdout
    assert shown == os.fsencode(odd)
