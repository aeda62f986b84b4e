"""The code of a folder against the code that its image was built from, as far as the image's label tells.

Whoever builds knows what goes into an image; whoever deploys only compares: this file is what they share.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from cpr_kit.config import FILE

LABEL = "cpr-kit.source"
"""The image's label with the digest of its code (cpr_kit.build.template)."""

_FIRST_YEAR = 2000
_FRACTION = re.compile(r"\.(\d{1,6})\d*")


@dataclass(frozen=True, kw_only=True)
class SourceState:
    """What an image of the folder would get as its code now. `unread` says why that cannot be told."""

    digest: str = ""
    """As the label has it."""
    written: Mapping[str, float] | None = None
    """When each file was last written, in seconds since 1970."""
    unread: str = ""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What an image says of itself: its labels, and when it was made (RFC 3339; "" where nobody says)."""

    labels: Mapping[str, str]
    created: str = ""


def difference(folder: SourceState, image: Built) -> str:
    """One line for the person where the folder has other code than the image; "" where it has the same.

    The label is one digest of all files, so that which of them differ is guessed by when they were written. An image
    without the label, as of a Dockerfile of one's own, says nothing.
    """
    label = image.labels.get(LABEL)
    if label is None or folder.digest == label:
        return ""
    if folder.unread:
        return f"the code of this folder was not compared with its image's: {folder.unread}"
    made = moment(image.created)
    if made and made.year < _FIRST_YEAR:  # of a build that is to come out the same at any time
        made = None
    when = f" at {made:%Y-%m-%d %H:%M:%S} UTC" if made else ""
    newer = [name for name, at in (folder.written or {}).items() if made and at > made.timestamp()]
    newer.sort(key=lambda name: (name == FILE, name))  # it may be newer for its [deploy], which is in no image
    if not newer:
        return f"the code of this folder is not what its image was built from{when}; to deploy it, run cpr build first"
    more = f" and {len(newer) - 1} more" if len(newer) > 1 else ""
    return f"{newer[0]}{more} changed after this image was built{when}; to deploy what is here, run cpr build first"


def moment(text: str) -> datetime | None:
    """A time of RFC 3339, such as Docker writes it, with nanoseconds; None for what is none.

    >>> moment("2026-01-31T12:00:00.123456789Z").isoformat()
    '2026-01-31T12:00:00.123456+00:00'
    """
    short = _FRACTION.sub(lambda found: f".{found[1]:0<6}", text).replace("Z", "+00:00")
    try:
        found = datetime.fromisoformat(short)
    except ValueError:
        return None
    return found.astimezone(timezone.utc) if found.tzinfo else found.replace(tzinfo=timezone.utc)
