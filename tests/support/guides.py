"""The pages for users: the README and what it links to."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
# What was so in an older release can no longer be typed, so the changelog is left out.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "deploy").rglob("*.md"))
    if path.name != "CHANGELOG.md"
)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def read(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def all_pages() -> str:
    """Return the text of all pages."""
    return "\n".join(map(read, PAGES))


def shell(page: str) -> list[str]:
    """Return the lines that a page tells its reader to type, without their comments."""
    blocks = "".join(_SHELL.findall(read(page))).replace("\\\n", " ")
    return [re.sub(r"\s+#.*", "", line) for line in blocks.splitlines()]


def links(page: str) -> list[str]:
    """Return where the links of a page lead, within the repository."""
    return [link for link in _LINK.findall(_FENCE.sub("", read(page))) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """Return the names that a site such as GitHub gives the headings of a page."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def configurations(page: str) -> list[dict[str, Any]]:
    """Return the pieces of configuration in a page."""
    return [yaml.safe_load(textwrap.dedent(text)) for text in _YAML.findall(read(page))]
