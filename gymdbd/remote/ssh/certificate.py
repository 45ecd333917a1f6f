"""Host certificates: whether an authority that known_hosts names vouches for a host's key."""

from __future__ import annotations

import base64
import fnmatch
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from gymdbd.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHA2 = (b"rsa-sha2-512", b"rsa-sha2-256")


def refuse(kind: str, blob: bytes, authorities: Sequence[bytes], name: str) -> str:
    """Return why a certificate does not vouch for the host `name`; "" if it does.

    `authorities` are the public keys that may have signed it. The rules are OpenSSH's, except for
    CASignatureAlgorithms: RSA signatures need SHA-2.
    """
    try:
        found = load_ssh_public_identity(f"{kind} {base64.b64encode(blob).decode()}".encode())
        if not isinstance(found, SSHCertificate):
            return "it is no certificate"
        signer = found.signature_key()
        encoded = signer.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        if base64.b64decode(encoded.split()[1]) not in authorities:
            return "another authority has signed it"
        if isinstance(signer, RSAPublicKey):
            # The signature's algorithm name precedes its length and its bytes.
            before = blob[: -((signer.key_size + 7) // 8) - 4]
            if not before.endswith(_SHA2):
                return "it is signed with SHA-1"
        found.verify_cert_signature()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm, AssertionError) as error:
        return f"it cannot be checked ({type(error).__name__})"
    return _refuse_content(found, name)


def _refuse_content(found: SSHCertificate, name: str) -> str:
    if found.type != SSHCertificateType.HOST:
        return "it is not for a host"
    if not found.valid_after <= Clock().now().timestamp() < found.valid_before:
        return "it is not valid at this time"
    patterns = [principal.decode("utf-8", "replace") for principal in found.valid_principals]
    if not any(fnmatch.fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns):
        return f"it is for {', '.join(patterns) or 'no name'}, not for {name}"
    if found.critical_options:
        return "it has conditions that gymdbd does not know"
    return ""
