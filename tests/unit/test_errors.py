"""The table of errors is the truth about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from gymdbd import errors
from gymdbd.remote import errors as remote_errors
from gymdbd.source import errors as source_errors
from gymdbd.source.errors import GymdbdError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_MODULES = (source_errors, remote_errors, errors)
_DOCS = "\n".join(module.__doc__ or "" for module in _MODULES)
_LINE = re.compile(r"    (?P<branch>[| ]*(?:\+- )?)(?P<name>\w+Error)\b")


def _drawn(module: ModuleType) -> list[tuple[str, str]]:
    """Return each class drawn in a module's docstring with its parent, top to bottom."""
    found, above = [], {}
    for line in (module.__doc__ or "").splitlines():
        if match := _LINE.match(line):
            depth = len(match["branch"]) // 3
            above[depth] = match["name"]
            found.append((match["name"], above.get(depth - 1, "Exception")))
    return found


def _defined(module: ModuleType) -> set[type[GymdbdError]]:
    values = vars(module).values()
    return {
        value for value in values if isinstance(value, type) and value.__module__ == module.__name__
    }


def _descend(kind: type[GymdbdError]) -> Iterator[type[GymdbdError]]:
    yield kind
    names = {module.__name__ for module in _MODULES}
    for child in kind.__subclasses__():
        if child.__module__ in names:
            yield from _descend(child)


_CLASSES = list(_descend(GymdbdError))


@pytest.mark.parametrize("module", _MODULES)
def test_the_drawn_tree_is_the_tree_of_classes(module: ModuleType) -> None:
    """A module's classes are drawn once, each below its base; else only bases are drawn."""
    classes = {(kind.__name__, kind.__bases__[0].__name__) for kind in _defined(module)}
    drawn = _drawn(module)
    assert len(set(drawn)) == len(drawn)
    assert classes <= set(drawn)
    assert {name for name, _ in set(drawn) - classes} <= {base for _, base in classes}


def test_every_class_of_the_modules_is_in_the_tree() -> None:
    """No class stands beside it."""
    assert {kind for module in _MODULES for kind in _defined(module)} == set(_CLASSES)


def test_the_drawn_exit_codes_are_those_of_the_classes() -> None:
    """`exit N` beside a class is its exit code; where none is drawn it is 1."""
    drawn = re.findall(r"(\w+Error) +exit (\d)\b", _DOCS)
    codes = {kind.__name__: kind.exit_code for kind in _CLASSES}
    assert {name: int(code) for name, code in drawn} == {
        name: code for name, code in codes.items() if code != 1 or name == "GymdbdError"
    }


def test_every_code_is_of_one_class() -> None:
    """Programs tell errors apart by it."""
    codes = [kind.code for kind in _CLASSES]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("kind", _CLASSES)
def test_every_class_is_documented_and_names_its_code(kind: type[GymdbdError]) -> None:
    """Its own docstring, its own code in lower case with hyphens."""
    assert vars(kind).get("__doc__")
    assert "code" in vars(kind)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)


@pytest.mark.parametrize("kind", _CLASSES)
def test_every_error_carries_its_message_and_hint(kind: type[GymdbdError]) -> None:
    """They are what the log, the status file and the command line show."""
    error = kind("what happened", hint="what to do")
    assert (str(error), error.message, error.hint) == ("what happened",) * 2 + ("what to do",)


def test_what_a_retry_can_help_against_is_what_the_tree_calls_transient() -> None:
    """BusyError besides, which the tree explains by its exit code."""
    drawn = set(re.findall(r"(\w+Error) +transient", _DOCS))
    unreachable = {kind.__name__ for kind in _descend(UnreachableError)}
    transient = {kind.__name__ for kind in _CLASSES if kind.transient}
    assert transient == drawn | unreachable | {"BusyError"}
