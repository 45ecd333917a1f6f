"""Notices by e-mail: through a mail server, or by the sendmail of this machine."""

from __future__ import annotations

import base64
import contextlib
import re
import smtplib
import socket
import ssl
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import TYPE_CHECKING

from gymdbd import files
from gymdbd.errors import ExtraMissingError, ReceiverAwayError, ReceiverRefusedError
from gymdbd.notices.channels import program
from gymdbd.words import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gymdbd.config.notify import ChannelConfig, SmtpConfig
    from gymdbd.notices.channels.letter import Letter

_WAIT_S = 10.0
_TEMPORARY, _PERMANENT = range(400, 500), range(500, 600)
_MOST_TOLD = 200
# What a login may be encoded as, also if it is cut off.
_ENCODED = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
_SENDMAIL = (Path("/usr/sbin/sendmail"), Path("/usr/lib/sendmail"))


def send(channel: ChannelConfig, letter: Letter) -> None:
    """Send a letter by e-mail; NotToldError or SecretError if that fails."""
    if channel.smtp is None:
        _hand_over(channel, letter)
    else:
        _submit(channel, channel.smtp, letter)


def _hand_over(channel: ChannelConfig, letter: Letter) -> None:
    """Give a letter to sendmail, which queues it."""
    found = next(filter(files.is_file, _SENDMAIL), None)
    if found is None:
        raise ExtraMissingError(
            "this machine has no sendmail to send e-mail with",
            hint="write smtp: with a mail server beside email:, or install one (msmtp-mta)",
        )
    message = _message(channel, channel.sender, letter)
    command = [str(found), "-oi", *(["-f", channel.sender] if channel.sender else [])]
    program.run(
        [*command, "--", str(channel.email)],
        given=message.as_bytes(policy=policy.SMTP.clone(linesep="\n")),
        hint="look at its log; under systemd, one that needs more rights than the service has does "
        "not work: write smtp: with a mail server instead",
    )


def _submit(channel: ChannelConfig, server: SmtpConfig, letter: Letter) -> None:
    """Give a letter to a mail server."""
    password = server.password.read() if server.password else ""
    user = server.user or ""
    sender = channel.sender or (user if "@" in user else f"gymdbd@{_host()}")
    message = _message(channel, sender, letter)
    place = f"{server.host}:{server.port}"
    try:
        with contextlib.closing(_connected(server)) as connection:
            if user:
                connection.login(user, password)
            connection.send_message(message, sender, [str(channel.email)])
            # The message was taken: what the server says to the farewell does not matter.
            with contextlib.suppress(smtplib.SMTPException, OSError):
                connection.putcmd("QUIT")
    except ssl.SSLCertVerificationError as error:
        raise ReceiverRefusedError(
            f"the mail server {place} is not trusted: "
            f"{error.verify_message or 'its certificate is invalid'}",
            hint="check host: and the clock; for a certificate authority of your own, set "
            "SSL_CERT_FILE in the environment of the service",
        ) from error
    except smtplib.SMTPRecipientsRefused as error:
        code, reply = next(iter(error.recipients.values()))
        raise _answered(server, code, reply, password) from error
    except smtplib.SMTPResponseException as error:
        raise _answered(server, error.smtp_code, error.smtp_error, password) from error
    except smtplib.SMTPNotSupportedError as error:
        raise ReceiverRefusedError(
            f"the mail server {place} offers no encryption, or no login that gymdbd knows",
            hint="check port: and tls: (587 with starttls, 465 with implicit)",
        ) from error
    except UnicodeEncodeError as error:
        raise ReceiverRefusedError(
            f"the user or password for {place} is not ASCII, which logins by SMTP need",
            hint="choose another password for it",
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        reason = getattr(error, "strerror", None) or "no valid answer in time"
        raise ReceiverAwayError(
            f"the mail server {place} cannot be reached ({reason})",
            hint="check host:, port: and tls:, and the network of this machine",
        ) from error


def _connected(server: SmtpConfig) -> smtplib.SMTP:
    """Connect to a mail server, encrypted unless that was asked for otherwise."""
    context = ssl.create_default_context()
    if server.encryption == "implicit":
        return smtplib.SMTP_SSL(server.host, server.port, _host(), timeout=_WAIT_S, context=context)
    connection = smtplib.SMTP(server.host, server.port, _host(), timeout=_WAIT_S)
    if server.encryption == "starttls":
        try:
            connection.starttls(context=context)
        except BaseException:
            connection.close()
            raise
    return connection


def _answered(
    server: SmtpConfig, code: int, reply: bytes | str, password: str
) -> ReceiverAwayError | ReceiverRefusedError:
    """Return the error for a server's refusal, in which it may repeat what it was given."""
    place = f"{server.host}:{server.port}"
    if code not in (*_TEMPORARY, *_PERMANENT):
        return ReceiverAwayError(
            f"what answers at {place} does not speak as a mail server does",
            hint="check host:, port: and tls:",
        )
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    told = printable(" ".join(_masked(text, server.user or "", password).split()))[:_MOST_TOLD]
    kind: Callable[..., ReceiverAwayError | ReceiverRefusedError] = ReceiverAwayError
    hint = "the mail server has trouble of its own, or wants to be asked again later"
    if code in _PERMANENT:
        kind, hint = ReceiverRefusedError, "check email:, sender:, user: and password:"
    return kind(f"the mail server {place} refused the message ({code} {told})", hint=hint)


def _masked(text: str, user: str, password: str) -> str:
    """Return a server's answer without the password, and without a login that it quotes."""
    if not password:
        return text
    logins = (password, f"\0{user}\0{password}")
    for secret in (password, *(base64.b64encode(login.encode()).decode() for login in logins)):
        text = text.replace(secret, "***")
    return _ENCODED.sub("***", text)


def _message(channel: ChannelConfig, sender: str | None, letter: Letter) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = letter.title
    if sender:
        message["From"] = f"gymdbd <{sender}>"
    message["To"] = str(channel.email)
    message["Date"] = formatdate(localtime=True)
    message["Message-ID"] = make_msgid(domain=sender.partition("@")[2] if sender else _host())
    # So that nobody's absence is answered to it: RFC 3834.
    message["Auto-Submitted"] = "auto-generated"
    if letter.priority == "high":
        message["X-Priority"] = "1"
    message.set_content(f"{letter.text}\n")
    return message


def _host() -> str:
    """Return the name of this machine, without a look-up in the network, which may hang."""
    name = socket.gethostname()
    return (
        name if name.isascii() and name.replace("-", "").replace(".", "").isalnum() else "localhost"
    )
