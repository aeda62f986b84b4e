"""The JSON of a request to one of Google's other hosts."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request

from cpr_kit.emulator.errors import invalid_argument


async def json_object(request: Request) -> dict[str, Any]:
    """An empty body is an empty object. Raises INVALID_ARGUMENT for what is none."""
    try:
        value = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise invalid_argument("Invalid JSON payload received.") from None
    if not isinstance(value, dict):
        raise invalid_argument("Invalid JSON payload received: it must be an object.")
    return value
