"""What an error advises can be typed: its verbs and flags are there, and its command lines work."""

from __future__ import annotations

import argparse
import ast
import os
import re
from pathlib import Path

import pytest

import gymdbd
from gymdbd import cli, commands
from gymdbd.notices import english, korean
from gymdbd.terminal import configuration
from gymdbd.words import service_command
from tests.support.databases import make_database
from tests.support.jobs import write_config

_ROOT = Path(gymdbd.__file__).parent
_COMMAND = re.compile(r"gymdbd (?:-c \S+ )?([a-z]+)((?: [^\s;:,()]+)*)")
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# Words of a sentence that is about the program, and flags of other programs.
_PROSE = {
    *(
        "there",
        "never",
        "cannot",
        "on",
        "itself",
        "shows",
        "here",
        "to",
        "over",
        "use",
        "is",
        "must",
    ),
}
_FOREIGN = {"--now", "--with", "--apple-use-keychain", "--apple-load-keychain"}


def _verbs() -> dict[str, set[str]]:
    """Return the flags of each verb."""
    flags = {}
    for name in commands.VERBS:
        parser = argparse.ArgumentParser()
        commands.load(name).add_arguments(parser)
        flags[name] = set(parser._option_string_actions)  # noqa: SLF001 - nothing else lists them
    return flags


def _text(node: ast.AST) -> str:
    """Return the letters of an expression, with X for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)}; {_text(node.orelse)}"
    return "X"


def _hints() -> list[tuple[str, str]]:
    """List every hint in the code with the place where it stands."""
    found = []
    for path in sorted(_ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            values: list[ast.AST] = []
            if isinstance(node, ast.Call):
                values = [one.value for one in node.keywords if one.arg in ("hint", "denied")]
            elif isinstance(node, ast.Assign):
                named = [one.id for one in node.targets if isinstance(one, ast.Name)]
                values = [node.value] if {"hint", "_HINT"} & set(named) else []
            elif isinstance(node, ast.FunctionDef) and "hint" in node.name:
                values = [
                    one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value
                ]
            place = f"{path.relative_to(_ROOT)}:{getattr(node, 'lineno', 0)}"
            found += [(place, _text(one)) for one in values]
    return [(place, text) for place, text in found if text != "X"]


def test_every_verb_and_flag_that_a_hint_names_is_there() -> None:
    """A flag behind a verb is one of that verb's; one that stands alone is of any of them."""
    verbs = _verbs()
    everywhere = set(cli.parser_for([])._option_string_actions)  # noqa: SLF001 - as above
    every = everywhere.union(*verbs.values()) | _FOREIGN
    hints = _hints()
    assert len(hints) > 100
    wrong = []
    for place, text in hints:
        wrong += [f"{place}: {flag}" for flag in _FLAG.findall(text) if flag not in every]
        for verb, rest in _COMMAND.findall(text):
            if verb in verbs:
                strange = [flag for flag in _FLAG.findall(rest) if flag not in verbs[verb]]
                wrong += [f"{place}: gymdbd {verb} {flag}" for flag in strange]
            elif verb not in _PROSE:
                wrong.append(f"{place}: gymdbd {verb}")
    assert wrong == []


@pytest.mark.parametrize("reasons", [english.REASONS, korean.REASONS], ids=["en", "ko"])
def test_every_flag_and_method_that_a_notice_advises_is_there(
    reasons: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    """Who is told by phone cannot look it up."""
    verbs = _verbs()
    wrong = []
    for code, (_, to_do) in reasons.items():
        for verb, rest in re.findall(r"(?:gymdbd |\b)([a-z]+)((?: --[a-z-]+)+)", to_do):
            known = verbs.get(verb, set())
            wrong += [f"{code}: {verb} {flag}" for flag in rest.split() if flag not in known]
        for method in re.findall(r"method: ([a-z]+)", to_do):
            job = {"kind": "pull", "every": "1h", "host": "pi", "remote_database": "/gym.db"}
            path = write_config(tmp_path, {"daily": {**job, "replica": "r.db", "method": method}})
            wrong += [] if cli.main(["-c", str(path), "schedule"]) == 0 else [f"{code}: {method}"]
    assert wrong == []


@pytest.mark.parametrize("verb", configuration.INSTEAD)
def test_what_is_advised_without_a_configuration_needs_none(
    verb: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command line of the hint, typed as it stands, does not lead to the same hint again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GYMDBD_CONFIG", raising=False)
    words = {"BACKUP": "latest", "TABLE": "t", "HOST": "localhost.invalid", "N": "3"}
    words["DIR"] = words["PATH"] = words["FILE"] = str(make_database(tmp_path / "gym.db"))
    required = ["latest"] if "BACKUP" in configuration.INSTEAD[verb] else []
    required += ["--table", "t"] if "TABLE" in configuration.INSTEAD[verb] else []

    cli.main([verb, *required])
    told = capsys.readouterr().err
    assert told.startswith("gymdbd: there is no configuration: ")
    assert f"; or use no configuration: gymdbd {verb} {configuration.INSTEAD[verb]}" in told

    cli.main([verb, *(words.get(word, word) for word in configuration.INSTEAD[verb].split())])
    assert "no configuration" not in capsys.readouterr().err


def test_a_verb_that_needs_a_configuration_advises_no_way_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For the schedule, say, there is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GYMDBD_CONFIG", raising=False)
    assert cli.main(["schedule"]) == 2
    assert "use no configuration" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("backup", "there are no backups yet; gymdbd backup makes one\n"),
        ("pull", "there are no backups yet; gymdbd pull saves each replica that it replaces\n"),
    ],
)
def test_an_empty_list_names_what_makes_backups_here(
    kind: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the machine that pulls, gymdbd backup has no job."""
    assert cli.main(["-c", str(_configuration(tmp_path, kind)), "list"]) == 0
    assert capsys.readouterr().out == expected


def test_a_kind_of_job_that_is_not_there_is_not_asked_for_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What there is instead is said, with its kind."""
    path = _configuration(tmp_path, "backup")
    assert cli.main(["-c", str(path), "pull"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"gymdbd: {path} has no pull job"
    assert second.startswith("What to do: its jobs are: daily (backup)")


def _configuration(folder: Path, kind: str) -> Path:
    """Write a configuration with one job of this kind, which has done nothing yet."""
    archive = folder / "archive"
    archive.mkdir()
    keys: dict[str, object] = {"database": str(folder / "gym.db")}
    if kind == "pull":
        keys = {"host": "pi", "remote_database": "/gym.db", "replica": str(folder / "r.db")}
    job = {"kind": kind, "every": "1h", "archive": str(archive), **keys}
    return write_config(folder, {"daily": job})


def test_nobody_is_advised_to_install_a_package_that_is_not_ours() -> None:
    """Gymdbd is installed from its repository: by that name an index may have anybody's."""
    root = _ROOT.parent
    files = [*root.glob("*.md"), *(root / "deploy").rglob("*.*"), *_ROOT.rglob("*.py")]
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in files
        if path.suffix != ".png" and path.is_file()
    }
    advised = re.compile(r"\bpip[23x]?'? install [^\n]*(?<![/.\w-])gymdbd\b(?![/.\w-])")
    assert [str(path) for path, text in texts.items() if advised.search(text)] == []


@pytest.mark.parametrize("verb", ["start", "restart", "reload"])
def test_the_command_for_the_service_is_that_of_this_machine(verb: str) -> None:
    """On a Mac there is no systemctl: it is the agent that the installer installs."""
    assert service_command(verb, "linux") == f"systemctl {verb} gymdbd"
    typed = service_command(verb, "darwin")
    installer = (_ROOT.parent / "deploy/launchd/agent.sh").read_text(encoding="utf-8")
    label = re.search(r"^label=(\S+)$", installer, re.MULTILINE)
    assert label is not None
    assert (typed.startswith("launchctl "), label[1] in typed) == (True, True)
    assert f"gui/{os.getuid()}" in typed


def test_the_command_for_an_installed_launch_daemon_is_roots(tmp_path: Path) -> None:
    """It lives in another domain than an agent, which belongs to no login."""
    plist = tmp_path / "io.github.gymdbd.plist"
    plist.touch()
    assert service_command("start", "darwin", plist) == f"sudo launchctl bootstrap system {plist}"
    assert (
        service_command("reload", "darwin", plist)
        == "sudo launchctl kill HUP system/io.github.gymdbd"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["restroe", "latest"], 'there is no command restroe; did you mean "restore"?'),
        (["--database", "gym.db", "backup"], "the flags of a command go after it"),
        (["frobnicate"], "there is no command frobnicate\n"),
        (["restore", "lates"], 'no backup called lates; did you mean "latest"?'),
        (["restore", "./gone.db"], "there is no file {folder}/gone.db\n"),
        (["drill"], "gymdbd drill latest rehearses a restore without one"),
        (["pull"], "gymdbd init --host HOST writes one"),
        (["prune", "--archive", "archive"], "for another database or without keep:"),
    ],
)
def test_a_mistake_of_a_newcomer_is_answered_with_what_was_meant(
    words: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A misspelt verb or name, a path that is not there, and a job that a first set-up has not."""
    path = _configuration(tmp_path, "backup")
    make_database(tmp_path / "gym.db")
    assert cli.main(["-c", str(path), "backup"]) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GYMDBD_CONFIG", str(path))
    assert cli.main(words) in (1, 2)
    assert expected.format(folder=tmp_path) in capsys.readouterr().err


def test_an_empty_list_of_a_database_names_its_whole_path_and_whether_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is in another folder than the application sees it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GYMDBD_CONFIG", str(_configuration(tmp_path, "backup")))
    assert cli.main(["list", "--database", "lost/gym.db"]) == 0
    told = f"there are no backups of {tmp_path}/lost/gym.db yet, and there is no file at that path"
    assert capsys.readouterr().out.startswith(told)
    make_database(tmp_path / "gym.db")
    assert cli.main(["list", "--database", "gym.db"]) == 0
    told = f"there are no backups of {tmp_path}/gym.db yet; gymdbd backup makes one\n"
    assert capsys.readouterr().out == told
