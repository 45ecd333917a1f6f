"""HTML, made so that no text of others becomes a part of it."""

from __future__ import annotations

import html
import re

from gymdbd import words

# Their end may be left out, and is, in hundreds of cells.
_OPEN = ("td", "th", "tr", "li", "dt", "dd")
_EMPTY = ("meta", "link")
_MOST_LETTERS = 600
_SPACES = re.compile(r"\s+")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def plain(text: object) -> str:
    """Return text that may be anybody's, short, and without what is not printable.

    So no character of it is a control character, reverses what follows, or is no Unicode.
    """
    shown = words.printable(_SPACES.sub(" ", str(text)))
    return shown if len(shown) <= _MOST_LETTERS else shown[:_MOST_LETTERS] + "…"


def escaped(content: object) -> Html:
    """Return HTML that shows a text, or the HTML that it is already."""
    return content if isinstance(content, Html) else Html(html.escape(plain(content)))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """Return an element; of `class_` the last line is dropped, and `aria_label` has a dash.

    An attribute that is None is left out, one that is True has no value.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escaped(value)}"')
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(*content)
    end = "" if name in _OPEN or name in _EMPTY else f"</{name}>"
    return Html(f"<{name}{written}>{inside}{end}")


def join(*content: object) -> Html:
    """Return the contents one after the other; None and empty texts are nothing."""
    return Html("".join(escaped(part) for part in content if part is not None and part != ""))


def foreign(text: str, **attributes: object) -> Html:
    """Return text of others, such as an error or a name, whose direction is its own."""
    return tag("bdi", text, **attributes)
