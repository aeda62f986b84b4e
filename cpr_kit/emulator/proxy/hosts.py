"""The host names that are answered on this machine."""

from __future__ import annotations

import ipaddress
import re

METADATA = ("metadata.google.internal", "metadata", "169.254.169.254")
"""What a program inside Google Cloud calls its metadata server."""

LOCAL = ("localhost", "127.0.0.1", "::1")

# "Choose an endpoint type": regional hosts (R-aiplatform.googleapis.com), dedicated endpoints
# (E.R-N.prediction.vertexai.goog), Private Service Connect (E-R-P.prediction.p.vertexai.goog), private endpoints over
# VPC peering (E.aiplatform.googleapis.com); and the hosts of Google's other services.
_LABEL = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)"
_GOOGLES = re.compile(rf"{_LABEL}{{1,6}}(?:googleapis\.com|prediction\.vertexai\.goog|prediction\.p\.vertexai\.goog)")


def normal(host: str) -> str:
    """A name as it is compared: lower case, no brackets around IPv6, no final dot."""
    return host.lower().strip("[]").removesuffix(".")


def is_google(host: str) -> bool:
    """Whether this is a name of Google's that the emulator stands for."""
    host = normal(host)
    return host in METADATA or _GOOGLES.fullmatch(host) is not None


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(normal(host))
    except ValueError:
        return False
    return True


def wildcard(host: str) -> str:
    """The name that stands in a certificate for `host`: its siblings are covered with it."""
    host = normal(host)
    parent = host.partition(".")[2]
    return host if is_address(host) or parent.count(".") < 1 else f"*.{parent}"
