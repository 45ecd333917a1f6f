"""Phrases that depend on the machine: each is chosen in one module."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gymdbd import words
from gymdbd.config import values

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(words.__file__).parent
_OF_LINUX = ("systemctl", "journalctl", "ReadWritePaths", "namei")
# What they say, they say only if systemd has the unit.
_OF_THE_UNIT = {"runs/provisions.py", "runs/unit.py"}


def _texts(path: Path) -> Iterator[str]:
    """Yield what a module may print: its strings, and its docstring if that is a verb's help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    scopes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, scopes) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        shown = id(node) not in docstrings or path.parent.name == "commands"
        if shown and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_only_one_module_names_a_tool_of_linux() -> None:
    """No hint, help or error of another module can send the user of a Mac to systemctl."""
    found = {
        str(path.relative_to(_PACKAGE))
        for path in _PACKAGE.rglob("*.py")
        for text in _texts(path)
        if any(word in text for word in _OF_LINUX)
    }
    assert found - _OF_THE_UNIT == {"words.py"}


def test_no_phrase_for_a_mac_names_a_tool_of_linux() -> None:
    """Each phrase that depends on the machine is another on a Mac; some say less."""
    phrases = [words.service_command(verb, "darwin") for verb in ("start", "restart", "reload")]
    phrases += [words.stop_it("darwin"), words.sandbox("darwin")]
    chosen = [
        name
        for name, value in vars(words).items()
        if inspect.isfunction(value) and "platform" in inspect.signature(value).parameters
    ]
    assert chosen == ["stop_it", "sandbox", "service_command"]
    assert [text for text in phrases if any(word in text for word in _OF_LINUX)] == []


def test_on_linux_the_phrases_name_its_tools() -> None:
    """There nothing is lost."""
    phrases = (
        words.stop_it("linux"),
        words.sandbox("linux"),
        words.service_command("start", "linux"),
    )
    named = [word for word in _OF_LINUX if any(word in text for text in phrases)]
    assert named == ["systemctl", "ReadWritePaths"]


@pytest.mark.parametrize("text", ["26h", "1d", "14d", "15m", "90s", "182h"])
def test_a_limit_is_told_as_the_configuration_has_it(text: str) -> None:
    """Python has "1 day, 2:00:00" for 26h."""
    assert words.limit(values.duration(text)) == text
