"""Resource names: `projects/NUMBER/locations/REGION/models/M@1` and their rules."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

from cpr_kit.emulator.errors import invalid_argument

_NUMBER_DIGITS = 12
_ID_DIGITS = 19
_LABEL = re.compile(r"[\w-]*")
_MAX_LABEL = 64
_LABEL_RULE = f"lower case letters, digits, _ and - alone, {_MAX_LABEL} at most"
_NAME = re.compile(r"projects/([^/]+)/locations/([^/]+)(?:/(.+))?")
_PROJECT = re.compile(r"[a-z0-9.:-]{1,63}")
LOCATION = re.compile(r"[a-z]+(-[a-z0-9]+)*|global")
_LOCATED = re.compile(r"(?:^|/)locations/([^/:]+)")
_MAX_DISPLAY_NAME = 128
_MAX_LABELS = 64

ENDPOINT_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
"""CreateEndpointRequest.endpoint_id: letters, digits and hyphens up to 63, or a number up to 9 digits."""
MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
"""UploadModelRequest.model_id: up to 63 characters, the first one no digit and no hyphen."""
ALIAS = re.compile(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]")
"""Model.version_aliases."""
DEPLOYED_MODEL_ID = re.compile(r"[0-9]{1,10}")
"""DeployedModel.id, where the caller gives one."""


class Projects:
    """Project ids and numbers. The number of an id is made of the id, so that it is the same everywhere."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def number(self, project: str) -> str:
        if project.isdigit():
            return project
        if not _PROJECT.fullmatch(project):
            raise invalid_argument(f'"{project}" is no project id')
        start = int.from_bytes(hashlib.sha256(project.encode()).digest()[:8], "big")
        number = str(10 ** (_NUMBER_DIGITS - 1) + start % (9 * 10 ** (_NUMBER_DIGITS - 1)))
        self._ids[number] = project
        return number

    def id(self, project: str) -> str:
        """The id whose number this is, as far as it was ever named; else what was given."""
        return self._ids.get(project, project)


@dataclass(frozen=True)
class Name:
    """A name taken apart: `rest` is what follows the location, "models/M@1"."""

    project: str
    location: str
    rest: str

    def __str__(self) -> str:
        return f"{self.parent}/{self.rest}" if self.rest else self.parent

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def collection(self) -> str:
        return self.rest.split("/")[0]

    @property
    def id(self) -> str:
        """Without version: "M"."""
        return self.rest.rpartition("/")[2].partition("@")[0]

    @property
    def version(self) -> str:
        """What follows the @: a number, an alias, or nothing."""
        return self.rest.partition("@")[2]

    @property
    def plain(self) -> str:
        """The name without a version."""
        return str(self).partition("@")[0]


def parse(text: str, projects: Projects, collection: str = "") -> Name:
    """The name with the project's number. Raises ApiError for one that is not in `collection`."""
    match = _NAME.fullmatch(text)
    if not match or not LOCATION.fullmatch(match[2]):
        wanted = f"projects/PROJECT/locations/LOCATION{f'/{collection}/ID' if collection else ''}"
        raise invalid_argument(f'"{text}" is no resource name of the form {wanted}')
    name = Name(projects.number(match[1]), match[2], match[3] or "")
    parts = name.rest.split("/")
    if collection and (len(parts) != 2 or parts[0] != collection or not parts[1]):  # noqa: PLR2004
        raise invalid_argument(f'"{text}" is no name of one of the {collection}')
    return name


def location_of(text: str) -> str:
    """The location in a resource's name, or "" where it has none."""
    found = _LOCATED.search(text)
    return found[1] if found else ""


def new_id(digits: int = _ID_DIGITS) -> str:
    """An id such as the service gives: a number without leading zero."""
    return str(10 ** (digits - 1) + secrets.randbelow(9 * 10 ** (digits - 1)))


def check_id(field: str, value: str, rule: re.Pattern[str]) -> None:
    if not rule.fullmatch(value):
        raise invalid_argument(f'Invalid {field} "{value}": it must match {rule.pattern}')


def check_display_name(value: str) -> None:
    """Raises for a display name that is missing or longer than 128 characters."""
    if not value:
        raise invalid_argument("The display_name is required.")
    if len(value) > _MAX_DISPLAY_NAME:
        raise invalid_argument(
            f"The display_name may have {_MAX_DISPLAY_NAME} characters at most, it has {len(value)}."
        )


def check_labels(labels: dict[str, str]) -> None:
    """The rules of labels: "Label keys and values can be no longer than 64 characters (Unicode codepoints), can only
    contain lowercase letters, numeric characters, underscores and dashes. International characters are allowed."
    (Model.labels); up to 64, whose keys begin with a letter (Google Cloud's labels).
    """
    if len(labels) > _MAX_LABELS:
        raise invalid_argument(f"There may be {_MAX_LABELS} labels at most, these are {len(labels)}.")
    for key, value in labels.items():
        if not key[:1].isalpha() or not _is_label(key):
            raise invalid_argument(f'Invalid label key "{key}": it must begin with a letter and have {_LABEL_RULE}.')
        if not _is_label(value):
            raise invalid_argument(f'Invalid value "{value}" of label "{key}": it must have {_LABEL_RULE}.')


def _is_label(text: str) -> bool:
    return len(text) <= _MAX_LABEL and _LABEL.fullmatch(text) is not None and text == text.lower()
