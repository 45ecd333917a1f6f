"""The command line: exit codes, the shape of a failure, and what a quick answer costs."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gymdbd
from gymdbd import cli, commands, errors
from gymdbd.remote import errors as remote_errors
from gymdbd.source import errors as source_errors
from gymdbd.terminal.output import Output, printable
from tests.support.command import ROOT, environment
from tests.support.databases import make_database
from tests.support.jobs import write_config

if TYPE_CHECKING:
    from pathlib import Path

    from gymdbd.source.errors import GymdbdError

_CLASSES: list[type[GymdbdError]] = [
    kind
    for module in (source_errors, remote_errors, errors)
    for kind in vars(module).values()
    if isinstance(kind, type) and kind.__module__ == module.__name__
]


# Runs a command line, and names on standard error each verb whose module is imported, and YAML.
_IMPORTS_TOLD = """
import sys
class Tell:
    def find_spec(self, name, path, target=None):
        if name.startswith("gymdbd.commands.") or name == "yaml":
            print("imported", name, file=sys.stderr)
sys.meta_path.insert(0, Tell())
from gymdbd.cli import main
sys.exit(main())
"""


def _imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return set(re.findall(r"^imported gymdbd\.commands\.(.+)$", done.stderr, re.MULTILINE))


def _python(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=environment(COLUMNS="100", **variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("verb", commands.VERBS)
def test_a_flag_that_a_verb_does_not_have_is_refused_with_the_help_of_that_verb(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever misspells a flag is sent to the page that lists those there are."""
    needed = {"accept": ["x"], "reject": ["x"], "keep": ["x"], "unkeep": ["x"], "diff": ["x"]}
    needed |= {"rescue": ["x", "--table", "t"]}
    needed |= {"serve": ["--database", "x"], "completion": ["bash"]}
    assert cli.main([verb, *needed.get(verb, []), "--no-such-flag"]) == 2
    told = capsys.readouterr().err
    assert "--no-such-flag" in told
    assert f"see gymdbd {verb} --help" in told


@pytest.mark.parametrize("kind", _CLASSES, ids=lambda kind: kind.__name__)
def test_every_failure_exits_by_its_class(
    kind: type[GymdbdError], capsys: pytest.CaptureFixture[str]
) -> None:
    """2 for usage and configuration, 3 for busy, 1 for the rest; --json tells it as one object."""
    codes = {errors.UsageError: 2, errors.BusyError: 3}
    expected = next((code for one, code in codes.items() if issubclass(kind, one)), 1)
    error = kind("it failed", hint="mend it")
    assert cli._report(error, Output(json=True)) == expected  # noqa: SLF001 - the one way out
    assert json.loads(capsys.readouterr().out) == {
        "schema": 1,
        "state": kind.state,
        "error": "it failed",
        "hint": "mend it",
        "code": kind.code,
    }


def test_every_failure_has_a_code_of_its_own() -> None:
    """A program tells failures apart by their code, so that no two classes share one."""
    assert len({kind.code for kind in _CLASSES}) == len(_CLASSES)


@pytest.mark.parametrize(
    "words",
    [
        ["bakup"],
        ["list", "--josn"],
        ["backup", "--keep-days", "many"],
        ["prune", "--keep-count", "-1"],
        ["schedule", "--count"],
        [],
    ],
)
def test_a_command_line_that_cannot_be_is_refused_either_way(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2: a line and a hint on stderr, or with --json one object and nothing else."""
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("gymdbd: ")
    assert "\nWhat to do: see gymdbd" in shown.err

    assert cli.main([*words, "--json"]) == 2
    shown = capsys.readouterr()
    answer = json.loads(shown.out)
    assert shown.err == ""
    assert (answer["schema"], answer["state"], answer["code"]) == (1, "failed", "usage")


def test_a_faulty_configuration_is_told_with_all_its_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faults are lines for a person, and a list for a program."""
    # Without a home folder there would be one more: no place for the status file.
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "config.yaml"
    path.write_text("status_fil: x\n")
    assert cli.main(["-c", str(path), "schedule", "--json"]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["code"] == "config"
    assert len(answer["faults"]) == 2
    assert cli.main(["-c", str(path), "schedule"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[1:3] == [f"  {fault}" for fault in answer["faults"]]


def test_the_version_is_told_without_loading_what_it_does_not_need() -> None:
    """`--version` imports no SSH, no scheduler, no tables, no log, no YAML and no SQLite."""
    script = (
        "import sys, json\nfrom gymdbd.cli import main\n"
        "try:\n    main(['--version'])\n"
        "except SystemExit:\n    print(json.dumps(sorted(sys.modules)))\n"
    )
    version, _, modules = _python(script).stdout.partition("\n")
    assert version == f"gymdbd {gymdbd.__version__}"
    heavy = {
        *("paramiko", "apscheduler", "rich", "sqlite3", "structlog", "yaml", "cronsim"),
        *("argcomplete", "cryptography"),
    }
    assert heavy & set(json.loads(modules)) == set()


@pytest.mark.parametrize(
    ("verb", "heavy"),
    [
        ("status", {"paramiko", "apscheduler", "argcomplete", "structlog", "sqlite3"}),
        ("status", {"gymdbd.source.protocol", "statistics", "tempfile", "difflib"}),
        ("list", {"paramiko", "apscheduler", "argcomplete", "sqlite3"}),
        ("serve", {"paramiko", "apscheduler", "argcomplete", "yaml", "structlog"}),
        ("pull", {"paramiko", "apscheduler", "argcomplete", "difflib"}),
        ("pull", {"gymdbd.archive.catalog", "gymdbd.notices", "gymdbd.source.snapshot"}),
        ("run", {"paramiko", "argcomplete"}),
    ],
)
def test_a_verb_imports_nothing_heavy_that_few_runs_of_it_need(verb: str, heavy: set[str]) -> None:
    """What stands at the top of a verb's module costs every start of it, its help included."""
    script = "import sys, json\nfrom gymdbd import commands\ncommands.load(sys.argv[1])\n"
    done = _python(f"{script}print(json.dumps(sorted(sys.modules)))", verb)
    assert heavy & set(json.loads(done.stdout)) == set()


def test_a_line_for_a_prompt_loads_no_log_no_tables_and_no_sqlite(tmp_path: Path) -> None:
    """Together they take longer than all the rest; in a prompt that is a pause at every command."""
    job = {"every": "1h", "database": "gym.db", "archive": "archive"}
    path = write_config(tmp_path, {"hourly": job})
    script = (
        "import sys, json\nfrom gymdbd.cli import main\n"
        "code = main(['-c', sys.argv[1], 'status', '--brief'])\n"
        "print(json.dumps([code, sorted(sys.modules)]))\n"
    )
    line, _, rest = _python(script, str(path)).stdout.partition("\n")
    code, modules = json.loads(rest)
    assert (line, code) == ("gymdbd: unknown: hourly (not-run-yet); see gymdbd status", 3)
    assert {"structlog", "rich", "sqlite3", "paramiko"} & set(modules) == set()


def test_a_status_that_cannot_be_read_is_one_line_and_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt shows standard output, and one line of it."""
    assert cli.main(["-c", str(tmp_path / "gone.yaml"), "status", "--brief"]) == 3
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith("gymdbd: unknown: cannot read the configuration ")
    assert shown.out.count("\n") == 1


def test_the_log_loads_no_tables() -> None:
    """The daemon and each of its runs would hold 5 MiB for them; tables are drawn all the same."""
    script = (
        "import sys, json\nfrom gymdbd import log\nfrom gymdbd.config.config import LogConfig\n"
        "log.configure(LogConfig(format='console'))\nlog.logger().warning('it works')\n"
        "loaded = 'rich' in sys.modules\n"
        "from gymdbd.terminal.output import Output\nOutput().table(['a'], [['b']])\n"
        "print(json.dumps(loaded))\n"
    )
    done = _python(script)
    assert "it works" in done.stderr
    assert done.stdout.splitlines()[2:] == ["b", "false"]


def test_a_pull_that_finds_nothing_new_does_not_load_what_swaps_it_in() -> None:
    """Most pulls do, and what only the others, or the other machine, need is loaded by them."""
    script = "import sys, json, gymdbd.jobs.pull.pull\nprint(json.dumps(sorted(sys.modules)))"
    late = {"gymdbd.jobs.pull.swap", "gymdbd.jobs.pull.old_replica", "gymdbd.archive.catalog"}
    there = {"gymdbd.source.snapshot", "gymdbd.source.pages", "gymdbd.source.wal"}
    assert {*late, *there, "gymdbd.remote.scp"} & set(json.loads(_python(script).stdout)) == set()


def test_a_traceback_in_the_log_is_plain_text() -> None:
    """Boxes around it would be noise in a file, and in a journal."""
    script = (
        "from gymdbd import log\nfrom gymdbd.config.config import LogConfig\n"
        "log.configure(LogConfig(format='console'))\n"
        "try:\n    1 / 0\n"
        "except ZeroDivisionError:\n    log.logger().error('it broke', exc_info=True)\n"
    )
    told = _python(script).stderr.splitlines()
    assert told[-1] == "ZeroDivisionError: division by zero"
    assert told[1] == "Traceback (most recent call last):"


_BROKEN = """
import sys, types
from gymdbd import cli, commands
broken = types.ModuleType("gymdbd.commands.broken")
broken.__doc__, broken.add_arguments = "break", lambda parser: parser.add_argument("--json")
broken.run = lambda arguments, output: [][1]
sys.modules["gymdbd.commands.broken"], commands.VERBS["broken"] = broken, "break"
sys.exit(cli.main())
"""


def test_a_bug_is_an_error_with_a_code_and_no_traceback() -> None:
    """A person reads what happened and what to do, a program one object."""
    done = _python(_BROKEN, "broken")
    told = _python(_BROKEN, "broken", "--json", "x")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gymdbd: unexpected IndexError: list index out of range\n")
    assert "What to do: this is a bug in gymdbd" in done.stderr
    assert "Traceback" not in done.stderr
    assert (told.returncode, told.stderr) == (1, "")
    assert json.loads(told.stdout)["code"] == "unexpected"


@pytest.mark.parametrize("words", [["--debug", "broken"], ["broken", "--debug"]])
def test_debug_shows_where_an_error_occurred(words: list[str]) -> None:
    """Before the verb or after it; the exit code is the same."""
    done = _python(_BROKEN, *words)

    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr
    assert "gymdbd: unexpected IndexError" in done.stderr


def test_debug_shows_all_events_of_a_run(tmp_path: Path) -> None:
    """Of one by hand, which otherwise shows warnings only."""
    database = make_database(tmp_path / "gym.db")
    words = ["backup", "--database", str(database), "--archive", str(tmp_path)]
    script = "import sys\nfrom gymdbd.cli import main\nsys.exit(main())"

    quiet, told = _python(script, *words), _python(script, "--debug", *words)

    assert "run started" not in quiet.stderr
    assert "run started" in told.stderr
    assert (quiet.returncode, told.returncode) == (0, 0)


def test_the_help_of_every_verb_needs_nothing_of_the_tests() -> None:
    """`VERB --help` works, names --help and the exit codes, and imports no test extra."""
    script = (
        "import sys, json, io, contextlib\nfrom gymdbd.cli import main\ntexts = []\n"
        "for verb in sys.argv[1:]:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        try:\n            main([verb, '--help'])\n"
        "        except SystemExit as exit:\n            assert exit.code == 0, verb\n"
        "    texts.append(out.getvalue())\n"
        "print(json.dumps([texts, sorted(sys.modules)]))\n"
    )
    done = _python(script, *commands.VERBS)
    assert done.stderr == ""
    texts, modules = json.loads(done.stdout)
    for verb, text in zip(commands.VERBS, texts, strict=True):
        assert text.startswith(f"usage: gymdbd {verb}")
        assert "exit status:" in text
    extras = {"flask", "hypothesis", "mypy", "pytest", "waitress", "tests"}
    assert extras & set(modules) == set()


def test_every_verb_is_whole() -> None:
    """A verb has its flags, something that runs, and the same summary in both lists of help."""
    for name, summary in commands.VERBS.items():
        verb = commands.load(name)
        verb.add_arguments(argparse.ArgumentParser())
        assert verb.__doc__.splitlines()[0] == summary
        assert callable(verb.run)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--version"], set()),
        (["--help"], set()),
        ([], set()),
        (["bakup"], set()),
        (["status", "--help"], {"status"}),
        (["backup", "status", "--no-such-flag"], {"backup"}),
        # Names of verbs can be those of files, of jobs and of their values, too.
        (["-c", "pull", "list"], {"list"}),
        (["--conf", "pull", "list"], {"list"}),
        (["--config=pull", "list"], {"list"}),
    ],
    ids=" ".join,
)
def test_only_the_verb_that_is_typed_is_imported(words: list[str], expected: set[str]) -> None:
    """A verb must not pay for the imports of another, and the list of all verbs for none."""
    assert _imported(_python(_IMPORTS_TOLD, *words)) == expected


@pytest.mark.parametrize(
    ("line", "offered", "imported"),
    [
        ("gymdbd st", "status ", set()),
        ("gymdbd -c pull backup --deleted --keep-c", "--keep-count ", {"backup"}),
    ],
)
def test_tab_imports_only_the_verb_whose_flags_it_completes(
    line: str, offered: str, imported: set[str], tmp_path: Path
) -> None:
    """At a Tab somebody waits: the names of the verbs come without a verb and without YAML."""
    answer = tmp_path / "answer"
    tab = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "COMP_LINE": line}
    done = _python(_IMPORTS_TOLD, **tab, COMP_POINT=str(len(line)))
    assert answer.read_text() == offered
    assert _imported(done) == imported
    assert ("imported yaml" in done.stderr) == bool(imported)


def test_a_reader_that_has_had_enough_is_no_complaint() -> None:
    """With the reading end of its output closed it ends quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    script = (
        "import sys\nfrom gymdbd import cli\n"
        "sys.exit(cli.main(['list', '--archive', '.', '--json']))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment(),
            cwd=ROOT / "tests",
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("김회원 a b", "김회원 a b"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("a\tb", "a\\tb"),
        ("\u202eevil", "\\u202eevil"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_would_move_the_cursor_is_shown_as_its_code(text: str, expected: str) -> None:
    """Control characters, overrides of direction and broken bytes are spelt out."""
    assert printable(text) == expected


@given(st.text())
def test_any_text_is_printable_in_the_end(text: str) -> None:
    """Nothing in a name may move the cursor, whatever the name."""
    shown: Any = printable(text)
    assert all(letter.isprintable() or letter == "\t" for letter in shown)
