"""The house, as its imports show it: who may know whom, and who may know a third party."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from gymdbd.remote import bootstrap

_ROOT = Path(__file__).parents[2]
_MODULES = {
    ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((_ROOT / "gymdbd").rglob("*.py"))
}

_SHIPPED = bootstrap.modules()

# The places of each third-party package. A login needs the errors of keys, which are those of the
# cryptography below paramiko.
_PLACES = {
    "argcomplete": {"gymdbd.terminal.completion"},
    "apscheduler": {"gymdbd.daemon.scheduler"},
    "concurrent_log_handler": {"gymdbd.log.log_file"},
    "cronsim": {"gymdbd.schedule"},
    "logging_journald": {"gymdbd.log"},
    "cryptography": {
        "gymdbd.remote.ssh.authorized",
        "gymdbd.remote.ssh.certificate",
        "gymdbd.remote.ssh.login",
    },
    "paramiko": {
        "gymdbd.remote.ssh.handshake",
        "gymdbd.remote.ssh.login",
        "gymdbd.remote.ssh.ssh",
        "gymdbd.remote.ssh.translation",
    },
    "rich": {"gymdbd.terminal.output"},
    "sdnotify": {"gymdbd.daemon.systemd"},
    "structlog": {"gymdbd.log"},
    "yaml": {"gymdbd.config.document"},
}

# What a layer must know nothing of, types included.
_ABOVE_JOBS = ("status", "scheduler", "daemon", "runner", "child", "systemd", "cli", "commands")
_FORBIDDEN = {
    "gymdbd.jobs": (*_ABOVE_JOBS, "output"),
    "gymdbd.archive": (*_ABOVE_JOBS, "output", "jobs", "config", "remote"),
    "gymdbd.remote": (*_ABOVE_JOBS, "output", "jobs", "config", "archive"),
    "gymdbd.source": (*_ABOVE_JOBS, "output", "jobs", "config", "archive", "remote", "sqlite"),
    "gymdbd.rows": (*_ABOVE_JOBS, "output", "jobs", "config", "archive", "remote"),
    "gymdbd.sqlite": (*_ABOVE_JOBS, "output", "jobs", "config", "archive", "remote"),
    "gymdbd.files": (*_ABOVE_JOBS, "output", "jobs", "config", "archive", "remote", "lock", "log"),
    "gymdbd.config.config": (*_ABOVE_JOBS, "output", "jobs", "archive", "remote"),
    "gymdbd.config.kinds": (*_ABOVE_JOBS, "output", "jobs", "archive", "remote"),
    "gymdbd.config.document": (*_ABOVE_JOBS, "output", "jobs", "archive", "remote", "sqlite"),
    "gymdbd.schedule": (*_ABOVE_JOBS, "output", "jobs", "config", "archive", "remote", "sqlite"),
    "gymdbd.daemon.scheduler": (
        "status",
        "daemon",
        "runner",
        "child",
        "jobs",
        "output",
        "commands",
    ),
    "gymdbd.runs.status": ("scheduler", "daemon", "runner", "child", "jobs", "output", "commands"),
    "gymdbd.runs.runner": ("scheduler", "daemon", "child", "systemd", "output", "commands", "cli"),
    "gymdbd.runs.child": ("scheduler", "daemon", "systemd", "output", "commands", "cli"),
    "gymdbd.daemon.loop": ("output", "commands", "cli", "jobs", "archive", "remote", "sqlite"),
    "gymdbd.terminal.output": (*_ABOVE_JOBS, "jobs", "config", "archive", "remote", "sqlite"),
    "gymdbd.source.errors": ("*",),
}


def _imports(module: str, *, types: bool = True) -> set[str]:
    """Return the modules that a module imports, anywhere in it; without `types` at run time."""
    tree = ast.parse(_MODULES[module].read_text(encoding="utf-8"))
    only_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for one in block.body
        for node in ast.walk(one)
    }
    found = set()
    for node in ast.walk(tree):
        if not types and id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            ours = names & _MODULES.keys()
            found |= ours | ({node.module} if len(ours) < len(names) else set())
    return found


def _below(package: str) -> list[str]:
    return [name for name in _MODULES if name == package or name.startswith(f"{package}.")]


def test_every_third_party_package_has_one_place() -> None:
    """A package is imported by its own module only; elsewhere at most for a type."""
    found: dict[str, set[str]] = {}
    for module in _MODULES:
        for name in _imports(module, types=False):
            package = name.partition(".")[0]
            if package != "gymdbd" and package not in sys.stdlib_module_names:
                found.setdefault(package, set()).add(module)
    assert found == _PLACES


def test_types_of_third_parties_are_named_in_few_places() -> None:
    """Beside its own place a package is named for a type by the configuration's reader only."""
    named = {
        (module, name.partition(".")[0])
        for module in _MODULES
        for name in _imports(module) - _imports(module, types=False)
        if name.partition(".")[0] not in {"gymdbd", *sys.stdlib_module_names}
    }
    assert {one for one in named if one[0] not in _PLACES[one[1]]} == {
        ("gymdbd.config.config", "yaml")
    }


@pytest.mark.parametrize("module", _SHIPPED)
def test_what_is_shipped_needs_only_the_standard_library_and_itself(module: str) -> None:
    """The other machine has nothing but python3: what travels there imports nothing else."""
    strangers = {
        name
        for name in _imports(module, types=False)
        if name not in _SHIPPED and name.partition(".")[0] not in sys.stdlib_module_names
    }
    assert strangers == set()


def test_the_source_and_sqlite_need_only_the_standard_library() -> None:
    """The knowledge of SQLite stands on nothing but errors and files."""
    strangers = {
        name
        for module in [*_below("gymdbd.source"), *_below("gymdbd.sqlite"), *_below("gymdbd.rows")]
        for name in _imports(module, types=False)
        if name.partition(".")[0] not in sys.stdlib_module_names
        and name not in {"gymdbd", "gymdbd.errors", "gymdbd.files"}
        and name not in [*_below("gymdbd.source"), *_below("gymdbd.sqlite"), *_below("gymdbd.rows")]
    }
    assert strangers == set()


@pytest.mark.parametrize("layer", _FORBIDDEN)
def test_imports_point_one_way(layer: str) -> None:
    """No layer knows what stands above it."""
    assert _below(layer)
    wrong = []
    for module in _below(layer):
        for name in _imports(module):
            part = name.removeprefix("gymdbd.").partition(".")[0]
            if name.startswith("gymdbd.") and (
                part in _FORBIDDEN[layer] or "*" in _FORBIDDEN[layer]
            ):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    """Terminal output is the business of output.py; the verbs and the command line call it."""
    users = {module for module in _MODULES if "gymdbd.terminal.output" in _imports(module)}
    ours = ("gymdbd.commands.", "gymdbd.terminal.")
    assert {one for one in users if not one.startswith(ours)} == {"gymdbd.cli"}
