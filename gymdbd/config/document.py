"""YAML to frozen dataclasses: one walk over a document's nodes that finds all errors.

The file is read as a tree of nodes, not as Python values, so that each error has its line and
nothing is guessed: a duration without a unit, a number in place of a text, a duplicate key and a
misspelt key are all errors. A dataclass declares its keys with `key(read, default)`; its method
`faults()`, if it has one, returns errors of the section as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml

from gymdbd import files
from gymdbd.config import values
from gymdbd.errors import ConfigError
from gymdbd.words import did_you_mean

Section = TypeVar("Section")
Read = Callable[["Document", yaml.Node, str], Any]
# Takes the path of the configuration.
Absent = Callable[[Path], Any]

MOST_CHARACTERS = 1024 * 1024


def key(read: Read, default: Any = dataclasses.MISSING, *, absent: Absent | None = None) -> Any:
    """Declare a key: the reader of its value, and its default, or what computes that if need be."""
    return dataclasses.field(default=default, metadata={"read": read, "absent": absent})


def scalar(parse: Callable[[str], Any], *tags: str) -> Read:
    """Return a reader of a plain value, whose YAML type must be one of `tags`."""

    def read(document: Document, node: yaml.Node, keypath: str) -> Any:
        del document, keypath
        if not isinstance(node, yaml.ScalarNode):
            raise ValueError(f"expected {values.describe(parse)} (got a list or a mapping)")
        if node.tag.rpartition(":")[2] not in tags:
            raise ValueError(f"expected {values.describe(parse)} (got {node.value or 'nothing'})")
        return parse(node.value)

    return read


def path(document: Document, node: yaml.Node, keypath: str) -> Path:
    """Read a path; `~` is expanded, and a relative path starts at the folder of the file.

    The path need not exist: a disk that is not mounted stops only the run that needs it.
    """
    written = scalar(values.text, "str")(document, node, keypath)
    try:
        expanded = document.folder / Path(written).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"the home folder in {written} is unknown: use an absolute path"
        ) from error
    return files.absolute(expanded)


def section(kind: type[Any]) -> Read:
    """Return a reader of a mapping into a dataclass."""
    return lambda document, node, keypath: document.section(node, kind, keypath)


def sections(kind: type[Any]) -> Read:
    """Return a reader of a list of mappings, each into a dataclass."""
    return items(section(kind))


def items(read: Read) -> Read:
    """Return a reader of a list into a tuple, with `read` for each entry."""

    def read_all(document: Document, node: yaml.Node, keypath: str) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise ValueError("expected a list: lines of the form - entry")
        return tuple(
            read(document, entry, f"{keypath}[{number}]") for number, entry in enumerate(node.value)
        )

    return read_all


def mapping(read: Read) -> Read:
    """Return a reader of a mapping with arbitrary names into pairs, with `read` for each value."""

    def read_all(document: Document, node: yaml.Node, keypath: str) -> tuple[tuple[str, Any], ...]:
        entries = document.entries(node, keypath)
        return tuple(
            (name, read(document, value, join(keypath, name)))
            for name, (_, value) in entries.items()
        )

    return read_all


class Document:
    """A file, its nodes, and the errors found so far.

    It `is_exposed` if others than its owner may read the file, so that no secret may stand in it.
    """

    def __init__(self, text: str, source: Path, *, is_exposed: bool = False) -> None:
        """Parse the text; ConfigError if it is not valid YAML."""
        self.source = source
        self.is_exposed = is_exposed
        self.folder = files.absolute(source).parent
        self._faults: list[tuple[int, str]] = []
        if len(text) > MOST_CHARACTERS:
            raise ConfigError(f"{source} is larger than 1 MiB, so it is not a configuration")
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigError(
                f"{source} is not valid YAML: {_problem(error)}",
                hint="check the indentation, and put quotes around texts with special characters",
            ) from None  # It shows the line, in which a secret may stand.
        if root is None:
            raise ConfigError(f"{source} is empty", hint="start from config.example.yaml")
        self.root: yaml.Node = root

    def read(self, kind: type[Section], **known: Any) -> Section:
        """Read the whole document into `kind`; ConfigError lists all errors with their lines."""
        result = self.section(self.root, kind, "", **known)
        if self._faults or result is None:
            raise ConfigError(
                f"{self.source} cannot be used",
                hint="config.example.yaml documents every key; gymdbd check tries a file",
                faults=tuple(fault for _, fault in sorted(self._faults)),
            )
        return result

    def fault(self, node: yaml.Node, keypath: str, message: str) -> None:
        """Record an error at `node`."""
        line = node.start_mark.line + 1
        place = f"{self.source}:{line}"
        fault = (line, f"{place}: {keypath}: {message}" if keypath else f"{place}: {message}")
        # A mapping may be read twice; its errors are reported once.
        if fault not in self._faults:
            self._faults.append(fault)

    def entries(self, node: yaml.Node, keypath: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
        """Return the keys of a mapping, each with the nodes of the key and of the value."""
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("expected a mapping: lines of the form key: value")
        entries: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for name_node, value_node in node.value:
            name = name_node.value if isinstance(name_node, yaml.ScalarNode) else "?"
            if name in entries:
                self.fault(name_node, join(keypath, name), "is given twice")
            entries[name] = (name_node, value_node)
        return entries

    def section(
        self, node: yaml.Node, kind: type[Section], keypath: str, /, **known: Any
    ) -> Section | None:
        """Read a mapping into `kind`, adding the values `known`; None if it has errors."""
        before = len(self._faults)
        try:
            entries = self.entries(node, keypath)
        except ValueError as error:
            self.fault(node, keypath, str(error))
            return None
        fields = dataclasses.fields(kind)  # type: ignore[arg-type]
        keys = {field.name: field for field in fields if "read" in field.metadata}
        for name in entries.keys() - keys.keys():
            message = f"unknown key{did_you_mean(name, keys)} (expected one of {', '.join(keys)})"
            self.fault(entries[name][0], join(keypath, name), message)
        given = dict(known)
        for name, field in keys.items():
            if name in entries:
                given[name] = self._value(field, entries[name][1], join(keypath, name))
            elif field.metadata["absent"]:
                given[name] = self._absent(field.metadata["absent"], node, join(keypath, name))
            elif field.default is dataclasses.MISSING:
                self.fault(node, join(keypath, name), "is missing, and has no default")
        if len(self._faults) > before:
            return None
        result = kind(**given)
        for message in getattr(result, "faults", list)():
            self.fault(node, keypath, message)
        return result

    def _value(self, field: dataclasses.Field[Any], node: yaml.Node, keypath: str) -> Any:
        try:
            return field.metadata["read"](self, node, keypath)
        except (ValueError, OverflowError) as error:
            self.fault(node, keypath, str(error))
            return None

    def _absent(self, absent: Absent, node: yaml.Node, keypath: str) -> Any:
        try:
            return absent(self.source)
        except ValueError as error:
            self.fault(node, keypath, str(error))
            return None


def _problem(error: Exception) -> str:
    """Return what is wrong with a YAML text, and where, without its words: they may be secrets."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    # The composer repeats the name of an alias, and a password may begin with `*`.
    is_alias = isinstance(error, yaml.composer.ComposerError)
    problem = str(error.problem).partition(" '")[0] if is_alias else error.problem
    mark = error.problem_mark
    return f"{problem} (line {mark.line + 1}, column {mark.column + 1})"


def join(keypath: str, name: str) -> str:
    """Return the path of a key below `keypath`."""
    return f"{keypath}.{name}" if keypath else name
