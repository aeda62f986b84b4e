"""Access tokens and identity tokens that carry what they say, and are good for nothing outside this machine."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable
from typing import Any

LIFETIME_S = 3600
SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email")
_PREFIX = "ya29.cpr-emulate."
_SECRET = secrets.token_bytes(32)
_JWT_PARTS = 3


def access_token(email: str, scopes: Iterable[str] = SCOPES, lifetime_s: int = LIFETIME_S) -> str:
    said = {"email": email, "scope": " ".join(scopes), "exp": int(time.time()) + lifetime_s, "id": secrets.token_hex(4)}
    return _PREFIX + _packed(said)


def read_access_token(token: str) -> dict[str, Any] | None:
    """What a token of `access_token` says, while it is valid."""
    said = _unpacked(token.removeprefix(_PREFIX)) if token.startswith(_PREFIX) else None
    return said if said is not None and said.get("exp", 0) > time.time() else None


def identity_token(email: str, audience: str) -> str:
    """A JWT with the claims of Google's. Its signature proves nothing: the key is this process's own."""
    now = int(time.time())
    claims = {
        "iss": "https://accounts.google.com", "aud": audience, "azp": audience, "sub": subject(email),
        "email": email, "email_verified": True, "iat": now, "exp": now + LIFETIME_S,
    }  # fmt: skip
    signed = f"{_packed({'alg': 'HS256', 'typ': 'JWT'})}.{_packed(claims)}"
    return f"{signed}.{_text(hmac.digest(_SECRET, signed.encode(), 'sha256'))}"


def claims(jwt: str) -> dict[str, Any] | None:
    """The claims of a JWT, whoever signed it; None for what is none."""
    parts = jwt.split(".")
    return _unpacked(parts[1]) if len(parts) == _JWT_PARTS else None


def subject(email: str) -> str:
    """The number by which Google knows an account: of the form only."""
    return str(10**20 + int.from_bytes(hashlib.sha256(email.encode()).digest()[:8], "big"))


def _packed(value: dict[str, Any]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unpacked(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
