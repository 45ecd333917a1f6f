"""URLs, which are secrets: many services take whoever knows the URL for its owner.

No error of this module repeats one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_WEB = ("http", "https")


def is_web(url: str) -> bool:
    """Return whether a URL is of the web, so that a notice is POSTed to it."""
    return url.strip().partition("://")[0].lower() in _WEB


def split(url: str) -> SplitResult:
    """Return the parts of a URL; ValueError if it is none, or would send secrets unencrypted."""
    url = url.strip()
    if "://" not in url or not url.isprintable() or " " in url:
        raise ValueError("expected a URL without spaces, such as https://ntfy.sh/...")
    if not is_web(url):
        return urlsplit("other://")
    parts = _parts(url)
    if not parts or not (host := parts.hostname):
        raise ValueError("expected a URL with a valid host and port, such as https://ntfy.sh/...")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(
            "expected https://, because http:// is not encrypted (it is allowed to localhost only)"
        )
    return parts


def shown(url: str) -> str:
    """Return as much of a URL as a message may show: of `tgram://TOKEN` even the host is secret."""
    if not is_web(url):
        scheme, found, _ = url.strip().partition("://")
        return f"{scheme}://..." if found and scheme.isalnum() else "the URL"
    parts = _parts(url.strip())
    if not parts:
        return "the URL"
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}/..."


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # It is parsed at its use.
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or number alone."""
    import ipaddress  # noqa: PLC0415 - each verb imports this module

    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
