"""Notices by the services that apprise knows; only the plugin that is used is loaded.

All of them would take another 27 MiB, and the time that a small machine has for a notice.
"""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd.config import urls
from gymdbd.errors import ExtraMissingError, NotToldError, ReceiverAwayError, ReceiverRefusedError
from gymdbd.source.errors import GymdbdError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apprise import NotifyBase, NotifyType

    from gymdbd.notices.channels.letter import Letter

_PROTOCOL = re.compile(r"protocol(?:: [^=\n]+)? = (\([^)]*\)|[\"'][^\"'\n]*[\"'])")
_STATUS = re.compile(r"error=(\d{3})\b")
_REFUSALS = {*range(300, 500)} - {408, 425, 429}


def send(url: str, letter: Letter) -> None:
    """Send a letter to a URL of apprise; NotToldError if it is not taken."""
    shown = urls.shown(url)
    receiver = _receiver(url.strip(), shown)
    said = _Said()
    logger = logging.getLogger("apprise")
    # It may log tokens and addresses, so its words go nowhere.
    logger.handlers, logger.propagate = [said], False
    try:
        is_taken = receiver.notify(
            body=letter.text, title=letter.title, notify_type=_kind(letter.health)
        )
    except (GymdbdError, MemoryError):
        raise
    except Exception as error:
        # A plugin, which is not ours, may raise anything.
        raise ReceiverAwayError(
            f"apprise failed to send to {shown} ({type(error).__name__})",
            hint=f"try it by hand: apprise -vv -b test {shown}",
        ) from error
    if not is_taken:
        raise _failure(shown, said.status)


def require_apprise() -> Path:
    """Return the folder of apprise's plugins; ExtraMissingError if it is not installed."""
    try:
        import apprise  # noqa: PLC0415 - an extra, of 28 MiB
    except ImportError as error:
        raise ExtraMissingError(
            "a URL that does not begin with https:// needs apprise, which is not installed",
            hint="run deploy/install.sh --with notify, or pip install '.[notify]' in its folder",
        ) from error
    return Path(apprise.__file__).parent / "plugins"


def _receiver(url: str, shown: str) -> NotifyBase:
    """Return the plugin of a URL, ready to send."""
    if "://" not in url:
        # Perhaps it is a token, of which no word may be shown.
        raise ReceiverRefusedError(
            "the secret is no URL: it has no ://",
            hint="write the whole URL, such as tgram://TOKEN/CHAT, as the page of that service at "
            "https://github.com/caronc/apprise has it",
        )
    scheme = url.partition("://")[0].lower()
    plugin = next(_plugins(scheme), None)
    if plugin is None:
        raise ReceiverRefusedError(
            f"apprise knows no service {scheme}://",
            hint="look it up at https://github.com/caronc/apprise, or install a newer apprise",
        )
    if not plugin.enabled:
        raise ExtraMissingError(
            f"the service {scheme}:// of apprise needs another package, which is not installed",
            hint=f"pip install what the page of {scheme}:// at https://github.com/caronc/apprise "
            "names",
        )
    try:
        parts = plugin.parse_url(url)
        receiver = plugin(**parts) if parts else None
    except (TypeError, ValueError):
        receiver = None
    if receiver is None:
        raise ReceiverRefusedError(
            f"apprise cannot read the URL {shown}",
            hint="compare it with the page of that service at https://github.com/caronc/apprise",
        )
    return receiver


def _plugins(scheme: str) -> Iterator[type[NotifyBase]]:
    """Yield the plugins for a scheme: only a module that names it is imported."""
    folder = require_apprise()
    for file in sorted(folder.rglob("*.py")):
        text = file.read_text(encoding="utf-8", errors="replace")
        if any(scheme in re.findall(r"[\w-]+", names) for names in _PROTOCOL.findall(text)):
            name = file.relative_to(folder).with_suffix("").parts[0]
            module = importlib.import_module(f"apprise.plugins.{name}")
            for found in vars(module).values():
                if hasattr(found, "schemas") and scheme in found.schemas(found):
                    yield found


def _kind(health: str) -> NotifyType:
    from apprise import NotifyType  # noqa: PLC0415 - an extra

    kinds = {"ok": NotifyType.SUCCESS, "failing": NotifyType.FAILURE}
    return kinds.get(health, NotifyType.WARNING)


def _failure(shown: str, status: int | None) -> NotToldError:
    if status in _REFUSALS:
        return ReceiverRefusedError(
            f"{shown} refused the message ({status})", hint="check the URL, and the token in it"
        )
    told = f" ({status})" if status else ""
    return ReceiverAwayError(
        f"apprise could not deliver the message to {shown}{told}",
        hint="check the URL and the network; apprise -vv -b test URL shows what it does",
    )


class _Said(logging.Handler):
    """Keeps the last status that a plugin logs, and drops its words."""

    status: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Look for a status in a line of the log."""
        if found := _STATUS.search(record.getMessage()):
            self.status = int(found[1])
