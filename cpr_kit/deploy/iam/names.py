"""The names that an IAM plan is made of: projects, members, buckets, repositories. Each is checked as it comes in.

What passes here has no quote, space, `$`, brace or backslash, so that it can end no word of a command and no string
of a Terraform file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cpr_kit.errors import UsageError

_PROJECT = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_NUMBER = re.compile(r"[1-9][0-9]{2,18}")
_LOCAL = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}"
_DOMAIN = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+"
_EMAIL = re.compile(f"{_LOCAL}@{_DOMAIN}")
_ACCOUNT = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})@(?P<project>[a-z0-9.-]+)\.iam\.gserviceaccount\.com")
_SHORT_ACCOUNT = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]{0,62})@(?P<project>[a-z][a-z0-9-]{4,28}[a-z0-9])")
_PRINCIPAL = re.compile(r"(?:principal|principalSet)://iam\.googleapis\.com/[A-Za-z0-9_./:@=+-]{1,500}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_REPOSITORY = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_LOCATION = re.compile(r"[a-z]{2,20}(-[a-z]+[0-9]{1,2})?")
_HOST = re.compile(r"(?P<location>[a-z0-9-]+)-docker\.pkg\.dev")
_GOOGLE_MADE = ".gserviceaccount.com"
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")


def project(text: str, source: str) -> str:
    """A project's id, by the rule of Resource Manager: 6 to 30 of lower-case letters, digits and hyphens."""
    if text.isascii() and text.isdecimal():
        raise UsageError(
            f'{source} is "{text}", a project number; the plan needs the id: '
            f"gcloud projects describe {text} --format='value(projectId)'"
        )
    if not _PROJECT.fullmatch(text):
        raise UsageError(
            f'{source} is "{text}"; a project id has 6 to 30 lower-case letters, digits and hyphens, '
            "and begins with a letter"
        )
    return text


def number(text: str, source: str) -> str:
    """A project's number."""
    if not _NUMBER.fullmatch(text):
        raise UsageError(
            f'{source} is "{text}"; a project number is all digits: '
            "gcloud projects describe PROJECT --format='value(projectNumber)'"
        )
    return text


@dataclass(frozen=True)
class Account:
    """A service account: its email, and the project that it belongs to."""

    email: str
    project: str

    @property
    def member(self) -> str:
        return f"serviceAccount:{self.email}"


def account(text: str, source: str) -> Account:
    """NAME@PROJECT.iam.gserviceaccount.com, or NAME@PROJECT for short."""
    email = text.removeprefix("serviceAccount:")
    short = _SHORT_ACCOUNT.fullmatch(email)
    if short:
        email = f"{email}.iam.gserviceaccount.com"
    match = _ACCOUNT.fullmatch(email)
    if match is None:
        raise UsageError(
            f'{source} is "{text}"; it is a service account of your own: NAME@PROJECT.iam.gserviceaccount.com, '
            "or NAME@PROJECT. Accounts that Google makes (...@developer.gserviceaccount.com) are used by everything "
            "in their project: make one for this model instead"
        )
    return Account(email, project(_project_of(match["project"]), source))


def _project_of(labels: str) -> str:
    """The project in an account's email. Ids with a domain are turned about: "shop.example.com" is example.com:shop."""
    first, dot, domain = labels.partition(".")
    return f"{domain}:{first}" if dot else first


def member(text: str, source: str) -> str:
    """A principal as IAM writes it: user:, group:, serviceAccount:, principal:// or principalSet://.

    A service account may be given by its email alone, or as NAME@PROJECT.
    """
    if text in _EVERYBODY:
        raise UsageError(f'{source} is "{text}", which is everybody; name who is to call')
    if _PRINCIPAL.fullmatch(text):
        return text
    kind, colon, rest = text.partition(":")
    if not colon:
        return _bare(text, source)
    if kind == "serviceAccount":
        return f"{kind}:{rest}" if _is_google_made(rest) else account(rest, source).member
    if kind in ("user", "group") and _EMAIL.fullmatch(rest):
        return text
    raise _no_member(text, source)


def _bare(text: str, source: str) -> str:
    if _is_google_made(text):
        return f"serviceAccount:{text}"
    if _SHORT_ACCOUNT.fullmatch(text):
        return account(text, source).member
    if _EMAIL.fullmatch(text):
        raise UsageError(f'{source} is "{text}"; say what it is: user:{text} or group:{text}')
    raise _no_member(text, source)


def _is_google_made(text: str) -> bool:
    return text.endswith(_GOOGLE_MADE) and bool(_EMAIL.fullmatch(text))


def _no_member(text: str, source: str) -> UsageError:
    return UsageError(
        f'{source} is "{text}"; it is user:EMAIL, group:EMAIL, serviceAccount:EMAIL, NAME@PROJECT for a service '
        "account, or principal://iam.googleapis.com/..."
    )


def bucket(text: str, source: str) -> str:
    """The bucket of gs://BUCKET or gs://BUCKET/FOLDER."""
    name = text.removeprefix("gs://").partition("/")[0]
    if not text.startswith("gs://") or not _BUCKET.fullmatch(name):
        raise UsageError(f'{source} is "{text}"; it is gs://BUCKET or gs://BUCKET/FOLDER')
    return name


@dataclass(frozen=True)
class Repository:
    """A repository of Artifact Registry. `project` is empty where it was not named."""

    location: str
    name: str
    project: str = ""


def repository(text: str, source: str) -> Repository:
    """REGION/NAME, or the beginning of an image's name: REGION-docker.pkg.dev/PROJECT/NAME."""
    parts = text.split("/")
    host = _HOST.fullmatch(parts[0])
    if host is not None and len(parts) >= 3:  # noqa: PLR2004
        found = Repository(host["location"], parts[2].partition(":")[0].partition("@")[0], project(parts[1], source))
    elif host is None and len(parts) == 2:  # noqa: PLR2004
        found = Repository(*parts)
    else:
        found = Repository("", "")
    if not _LOCATION.fullmatch(found.location) or not _REPOSITORY.fullmatch(found.name):
        raise UsageError(f'{source} is "{text}"; it is REGION/NAME, or REGION-docker.pkg.dev/PROJECT/NAME')
    return found
