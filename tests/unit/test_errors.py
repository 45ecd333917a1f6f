"""The table of errors is the truth about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from gymdbd import errors
from gymdbd.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = re.compile(r"    (?P<branch>[| ]*(?:\+- )?)(?P<name>\w+Error)\b")


def _drawn() -> list[tuple[str, str]]:
    """Return each class drawn in the module's docstring with its parent, top to bottom."""
    found, above = [], {}
    for line in (errors.__doc__ or "").splitlines():
        if match := _LINE.match(line):
            depth = len(match["branch"]) // 3
            above[depth] = match["name"]
            found.append((match["name"], above.get(depth - 1, "Exception")))
    return found


def _descend(kind: type[GymdbdError]) -> Iterator[type[GymdbdError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _descend(child)


_CLASSES = list(_descend(GymdbdError))


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    """Every class is drawn once, below the one it derives from, and nothing else is drawn."""
    classes = [(kind.__name__, kind.__bases__[0].__name__) for kind in _CLASSES]
    assert sorted(_drawn()) == sorted(classes)


def test_every_class_of_the_module_is_in_the_tree() -> None:
    """No class stands beside it."""
    defined = {
        one
        for one in vars(errors).values()
        if isinstance(one, type) and one.__module__ == errors.__name__
    }
    assert defined == set(_CLASSES)


def test_the_drawn_exit_codes_are_those_of_the_classes() -> None:
    """`exit N` beside a class is its exit code; where none is drawn it is 1."""
    drawn = re.findall(r"(\w+Error) +exit (\d)\b", errors.__doc__ or "")
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
    drawn = set(re.findall(r"(\w+Error) +transient", errors.__doc__ or ""))
    unreachable = {kind.__name__ for kind in _descend(errors.UnreachableError)}
    transient = {kind.__name__ for kind in _CLASSES if kind.transient}
    assert transient == drawn | unreachable | {"BusyError"}
