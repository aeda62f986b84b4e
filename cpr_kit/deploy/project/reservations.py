"""Reserved machines: which of them a deployed model takes (API message ReservationAffinity, SDK's Model.deploy)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cpr_kit.errors import ConfigError

ANY, NONE = "any", "none"
"""Whatever is reserved, else machines on demand; machines on demand alone."""

_NAME = re.compile(r"projects/[a-z0-9.:-]+/zones/([a-z0-9-]+)-[a-z]/reservations/[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_FORM = "projects/PROJECT/zones/ZONE/reservations/NAME"


def check(names: Sequence[str], region: str) -> None:
    """Raises ConfigError for what is no reservation of this region: it is a zone's, as its name says."""
    words = [name for name in names if name in (ANY, NONE)]
    if words and len(names) > 1:
        raise ConfigError(
            f'[deploy] reservation has "{words[0]}" and {len(names) - 1} more; it is "{ANY}" or "{NONE}" alone, or '
            f"names of reservations: {_FORM}"
        )
    for name in names:
        found = _NAME.fullmatch(name)
        if name not in words and found is None:
            raise ConfigError(
                f'[deploy] reservation is "{name}"; it is "{ANY}", "{NONE}", or a reservation\'s full name: {_FORM} '
                "(gcloud compute reservations list)"
            )
        if found is not None and found[1] != region:
            raise ConfigError(f"[deploy] reservation {name} is in {found[1]}, and the model in {region}")


def in_region(names: Sequence[str], region: str) -> tuple[str, ...]:
    """Of several regions' reservations those of this one. Raises ConfigError where it has none among them."""
    zones = {name: found[1] for name in names if (found := _NAME.fullmatch(name))}
    kept = tuple(name for name in names if zones.get(name, region) == region)
    if names and not kept:
        raise ConfigError(
            f"[deploy] reservation has none in {region}, only in {', '.join(sorted(set(zones.values())))}; name one "
            f"for each of the regions: {_FORM}"
        )
    return kept
