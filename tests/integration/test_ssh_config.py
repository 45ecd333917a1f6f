"""`~/.ssh/config` is read as OpenSSH reads it: `ssh -G` says what is right."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gymdbd.errors import SshConfigError
from gymdbd.remote import ssh, ssh_config
from gymdbd.remote.target import HostSettings

if TYPE_CHECKING:
    from pathlib import Path

_PATTERNS = st.sampled_from(["pi", "p*", "*", "laptop", "?i", "192.*", "root", "!pi", "PI", "[p]i"])
_LISTS = st.lists(_PATTERNS, min_size=1, max_size=3)
_KEYWORDS = st.sampled_from(["host", "originalhost", "user", "localuser", "!host", "!user", "Host"])
_COMMANDS = st.sampled_from(
    [
        *("true", "false", '"exit 3"', '"test %h = pi"', '"test %n = pi"', '"test %p -gt 4"'),
        *('"test %r = guest"', '"test %u%% = root%%"', '"test -d %d && test %i -eq 0"'),
        *('"test %L = $(hostname -s)"', '"test -n %l"'),
    ]
)
_CRITERIA = st.one_of(
    st.tuples(_KEYWORDS, _LISTS.map(",".join)).map(" ".join),
    st.tuples(st.sampled_from(["exec", "!exec", "EXEC"]), _COMMANDS).map(" ".join),
)
_SETTINGS = st.one_of(
    st.sampled_from(["pi", "laptop", "192.168.1.7"]).map("HostName {}".format),
    st.sampled_from(["root", "pi", "guest", '"guest"', "pi # mine"]).map("User={}".format),
    st.integers(1, 9).map("  port {} # Tom's".format),
    st.just("# Include nothing"),
    st.just(""),
)
_HEADS = st.one_of(
    _LISTS.map(lambda words: f"Host {' '.join(words)}"),
    st.lists(_CRITERIA, min_size=1, max_size=3).map(lambda words: f"match {' '.join(words)}"),
    st.sampled_from(
        [
            "Match all",
            "match canonical all",
            "match final all",
            "match final host pi",
            "Host = pi",
            "Match host pi # Tom's",
            "Host pi # mine",
        ]
    ),
)
# A block with a setting, that of another file within it, and one after that.
_BLOCKS = st.tuples(_HEADS, _SETTINGS, st.sampled_from(["include {}", ""]), _SETTINGS)
_FILES = st.lists(_BLOCKS, max_size=3).map(lambda blocks: [line for one in blocks for line in one])


def _write(folder: Path, files: list[list[str]]) -> Path:
    """Write files of which each one includes the next one; return the first."""
    folder.mkdir(exist_ok=True)
    for number, lines in enumerate(files):
        following = folder / f"{number + 1}.conf"
        text = "\n".join(lines).replace("{}", str(following))
        (folder / f"{number}.conf").write_text(text + "\n")
    (folder / f"{len(files)}.conf").write_text("")
    return folder / "0.conf"


def _openssh(file: Path) -> dict[str, str]:
    done = subprocess.run(
        ["ssh", "-G", "-F", str(file), "pi"], check=True, capture_output=True, text=True
    )
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    return {name: said[name] for name in ("hostname", "user", "port")}


def _ours(file: Path) -> dict[str, str]:
    target = ssh.resolve(HostSettings(host="pi"), file)
    return {"hostname": target.hostname, "user": target.user, "port": str(target.port)}


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(_FILES, min_size=1, max_size=3))
def test_every_block_binds_what_openssh_binds(tmp_path: Path, files: list[list[str]]) -> None:
    """Host and Match, within each other by Include, with every criterion that paramiko has."""
    file = _write(tmp_path / "config", files)
    assert _ours(file) == _openssh(file)


@pytest.mark.parametrize(
    "text",
    [
        'User guest\nPort 7\nMatch user guest exec "test %r%p = guest7"\n HostName laptop\n',
        "Match final\n User late\nHost pi\n User early\n",
        "Match final all\n Port 5\nHost pi\n User early\n",
        "Host 192.*\n User late\nHost p*\n HostName 192.168.1.7\nMatch final\n Port 5\n",
    ],
)
def test_what_was_said_before_counts(tmp_path: Path, text: str) -> None:
    """In the tokens and criteria of a Match, and in the second pass that `final` asks for."""
    file = tmp_path / "config"
    file.write_text(text)
    assert _ours(file) == _openssh(file)


@pytest.mark.parametrize(
    "text",
    ["Match host PI\n Port 5\n", "Host PI\n Port 5\n", 'Match exec "test pi # x"\n Port 5\n'],
)
def test_letters_and_quotes_count_as_there(tmp_path: Path, text: str) -> None:
    """Match takes large letters for small ones, Host does not; a quoted comment is none."""
    file = tmp_path / "config"
    file.write_text(text)
    assert _ours(file) == _openssh(file)


@pytest.mark.parametrize("criterion", ["localnetwork 192.168.1.0/24", "!tagged away", "Tagged=x"])
def test_a_criterion_that_nobody_here_can_judge_is_an_error(tmp_path: Path, criterion: str) -> None:
    """Where it decides something: a block for other hosts that has one is in nobody's way."""
    file = tmp_path / "config"
    file.write_text(f"Match host laptop {criterion}\n Port 1\nHost pi\n Port 2\n")
    assert _ours(file)["port"] == "2"

    file.write_text(f"Match host pi {criterion}\n Port 1\nHost pi\n Port 2\n")
    with pytest.raises(SshConfigError, match=r"(localnetwork|tagged) \.\.\.") as caught:
        _ours(file)
    assert "Match originalhost laptop" in caught.value.hint


def test_a_command_that_does_not_end_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull that waits for it would never say why nothing comes."""
    monkeypatch.setattr(ssh_config, "_EXEC_TIMEOUT_S", 0.2)
    file = tmp_path / "config"
    file.write_text('Match exec "sleep 60"\n Port 1\n')
    with pytest.raises(SshConfigError, match="does not end: Match exec 'sleep 60'"):
        _ours(file)


def test_a_shell_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is the user's shell's to run, as with OpenSSH."""
    monkeypatch.setenv("SHELL", str(tmp_path / "nosh"))
    file = tmp_path / "config"
    file.write_text("Match exec true\n Port 1\n")
    with pytest.raises(SshConfigError, match=r"SHELL|cannot be run"):
        _ours(file)


def test_what_includes_itself_is_an_error(tmp_path: Path) -> None:
    """OpenSSH says so too."""
    file = tmp_path / "config"
    file.write_text(f"Include {file}\n")
    with pytest.raises(SshConfigError, match="includes itself"):
        _ours(file)
