"""The house, as its imports show it: who may know whom, and who may know a third party.

The plan is in the docstrings of packages (`gymdbd`, `gymdbd.jobs`): the rooms from top to bottom.
"""

from __future__ import annotations

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_MODULES = {
    ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((_ROOT / "gymdbd").rglob("*.py"))
}
_PACKAGES = [name for name, path in _MODULES.items() if path.name == "__init__.py"]
_ENTRIES = {"gymdbd": {"__main__"}}  # What stands above the plan: nobody imports it.

# The room of each third-party package.
_ROOMS = {
    "apprise": "gymdbd.notices.channels.services",
    "argcomplete": "gymdbd.terminal.completion",
    "apscheduler": "gymdbd.daemon.scheduler",
    "concurrent_log_handler": "gymdbd.log",
    "cronsim": "gymdbd.schedule",
    "cryptography": "gymdbd.remote.ssh",
    "logging_journald": "gymdbd.log",
    "paramiko": "gymdbd.remote.ssh",
    "rich": "gymdbd.terminal.output",
    "sdnotify": "gymdbd.daemon.systemd",
    "structlog": "gymdbd.log",
    "yaml": "gymdbd.config.document",
}


def _imports(module: str, *, types: bool = True) -> set[str]:
    """Return the modules that a module imports, anywhere in it; without `types` at run time."""
    tree = ast.parse(_MODULES[module].read_text(encoding="utf-8"))
    only_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
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


def _package(name: str) -> str:
    return name.partition(".")[0]


def _below(package: str) -> list[str]:
    return [name for name in _MODULES if name == package or name.startswith(f"{package}.")]


def _children(package: str) -> set[str]:
    """Return what lies in a package: its modules and packages, by their own names."""
    prefix = f"{package}."
    return {
        name.removeprefix(prefix).partition(".")[0] for name in _MODULES if name.startswith(prefix)
    }


def _plan(package: str) -> list[str]:
    """Return the rooms that a package's docstring lists from top to bottom, if it lists any."""
    docstring = ast.get_docstring(ast.parse(_MODULES[package].read_text(encoding="utf-8"))) or ""
    return re.findall(r"^    (\w+)  +\w", docstring, re.MULTILINE)


_PLANNED = [package for package in _PACKAGES if _plan(package)]


def test_the_house_and_the_jobs_have_a_plan() -> None:
    """Without one the tests below would hold nothing."""
    assert {"gymdbd", "gymdbd.jobs"} <= set(_PLANNED)


@pytest.mark.parametrize("package", _PLANNED)
def test_a_plan_names_every_room_and_no_other(package: str) -> None:
    """What is not in the plan would be under no rule."""
    assert sorted(_plan(package)) == sorted(_children(package) - _ENTRIES.get(package, set()))


@pytest.mark.parametrize("package", _PLANNED)
def test_imports_point_down_the_plan(package: str) -> None:
    """No room knows one that stands above it, types included."""
    plan = _plan(package)
    wrong = []
    for module in _below(package):
        room = module.removeprefix(f"{package}.").partition(".")[0]
        for name in _imports(module):
            target = name.removeprefix(f"{package}.").partition(".")[0]
            if room in plan and target in plan and name.startswith(f"{package}."):
                wrong += (
                    [f"{module} imports {name}"] if plan.index(target) < plan.index(room) else []
                )
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Types included, and imports within functions."""
    graph = {module: _imports(module) & _MODULES.keys() - {module} for module in _MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_source_imports_nothing_from_outside_itself() -> None:
    """The other machine has nothing but python3: what travels there needs nothing else."""
    strangers = {
        f"{module} imports {name}"
        for module in _below("gymdbd.source")
        for name in _imports(module)
        if _package(name) not in sys.stdlib_module_names
        and name not in _below("gymdbd.source")
        and name != "gymdbd"
    }
    assert strangers == set()


@pytest.mark.parametrize("room", ["archive", "rows", "remote", "sqlite", "source"])
def test_what_stands_below_the_jobs_does_not_know_the_configuration(room: str) -> None:
    """A job hands down what it was configured with, value by value."""
    wrong = {
        f"{module} imports {name}"
        for module in _below(f"gymdbd.{room}")
        for name in _imports(module)
        if name in _below("gymdbd.config")
    }
    assert wrong == set()


def test_every_third_party_package_has_one_room() -> None:
    """A package is imported in its own room only; elsewhere at most for a type."""
    found = {
        (_package(name), module)
        for module in _MODULES
        for name in _imports(module, types=False)
        if _package(name) not in {"gymdbd", *sys.stdlib_module_names}
    }
    assert {package for package, _ in found} == _ROOMS.keys()
    strangers = [
        f"{module} imports {package}"
        for package, module in sorted(found)
        if module not in _below(_ROOMS[package])
    ]
    assert strangers == []


def test_only_the_command_line_prints() -> None:
    """Terminal output is the business of output.py; the verbs and the command line call it."""
    users = {module for module in _MODULES if "gymdbd.terminal.output" in _imports(module)}
    ours = ("gymdbd.commands.", "gymdbd.terminal.")
    assert {module for module in users if not module.startswith(ours)} == {"gymdbd.cli"}


# The rooms whose decisions would be wrong if a folder that cannot be read was taken for none.
_DECIDING = tuple(f"gymdbd.{room}" for room in ("archive", "config", "jobs", "runs"))


def test_nothing_is_taken_for_absent_because_it_cannot_be_seen() -> None:
    """From Python 3.14 on, Path.exists and its like swallow each error; files.is_there does not."""
    swallowing = {"exists", "is_dir", "is_file"}
    found = [
        f"{name}:{node.lineno}"
        for name, path in _MODULES.items()
        if name.startswith(_DECIDING)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in swallowing
        and ast.unparse(node.func.value) not in ("files", "entry")  # os.DirEntry raises, too
    ]
    assert found == []
