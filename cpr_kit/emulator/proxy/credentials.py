"""The service account that programs under the emulator are: a key file of the usual form, made here."""

from __future__ import annotations

import functools
import json
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cpr_kit.emulator.proxy.tokens import subject

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_KEY_BITS = 2048


def email_of(project: str) -> str:
    return f"emulator@{project}.iam.gserviceaccount.com"


def service_account(project: str) -> dict[str, str]:
    """What a service account's key file says. The first call in a process makes the key, some 100 ms."""
    email = email_of(project)
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": secrets.token_hex(20),
        "private_key": _private_key(),
        "client_email": email,
        "client_id": subject(email),
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": TOKEN_URI,
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": f"https://www.googleapis.com/robot/v1/metadata/x509/{email}",
        "universe_domain": "googleapis.com",
    }


def write(path: Path, project: str) -> None:
    """Write the key file, for this user's eyes only."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(service_account(project), file, indent=2)


@functools.cache
def _private_key() -> str:
    """Google takes RSA keys alone for service accounts. This one opens nothing but the emulator's own token route."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
