"""Notify systemd, by https://www.freedesktop.org/software/systemd/man/sd_notify.html."""

from __future__ import annotations

import os
import time

import sdnotify

from gymdbd import words
from gymdbd.log import logger

# If systemd does not read in this time, the daemon continues without it.
_SEND_S = 2.0


class Notifier:
    """Sends state to the socket in $NOTIFY_SOCKET; does nothing if that is not set."""

    def __init__(self) -> None:
        """Connect to the socket, and read the interval of the watchdog."""
        self._notifier = None
        self._complained = False
        self.is_there = bool(os.environ.get("NOTIFY_SOCKET"))
        if self.is_there:
            self._notifier = self._connect()
        usec = os.environ.get("WATCHDOG_USEC", "")
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isdigit() and int(usec) and mine else None

    def ready(self, status: str) -> None:
        """Report that the daemon is ready, at start and after a reload."""
        self._send(f"READY=1\nSTATUS={words.printable(status)}")

    def reloading(self) -> None:
        """Report that the configuration is being reloaded."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the daemon is stopping."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={words.printable(text)}")

    def watchdog(self) -> None:
        """Report that the daemon and its scheduler are alive."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def _connect(self) -> sdnotify.SystemdNotifier | None:
        try:
            # Without debug it ignores every error.
            notifier = sdnotify.SystemdNotifier(debug=True)
        except OSError as error:
            self._complain(error)
            return None
        notifier.socket.settimeout(_SEND_S)
        return notifier

    def _send(self, state: str) -> None:
        if self._notifier is None:
            return
        try:
            self._notifier.notify(state)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            logger().warning("systemd not reached", reason=str(error))
