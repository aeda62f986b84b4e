"""The artifacts and the bucket that they are staged in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cpr_kit.deploy.artifacts import folder
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex.rest import Google
from cpr_kit.finding import Finding

Look = Callable[[], Iterator[Finding]]
_STORAGE = "https://storage.googleapis.com/storage/v1/b"
_WRITES = ("storage.objects.create", "storage.objects.get", "storage.objects.list", "storage.objects.delete")
_SEVERAL = ("us", "eu", "asia")
"""Locations of buckets that lie in several regions at once."""


def looks(target: Target, google: Google) -> tuple[tuple[str, Look], ...]:
    found: list[tuple[str, Look]] = []
    if target.artifacts:
        found.append(("artifacts", partial(_artifacts, target, google, target.artifacts)))
    if target.staging:
        found.append(("staging", partial(_staging, target, google, target.staging)))
    return tuple(found)


def _artifacts(target: Target, google: Google, uri: str) -> Iterator[Finding]:
    if not uri.startswith("gs://"):
        yield from _of_this_machine(Path(uri))
        return
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    reply = google.get(f"{_STORAGE}/{bucket}/o", prefix=prefix, maxResults=1)
    if reply.absent:
        remedy = "look at [model] artifacts: gcloud storage buckets list"
        yield Finding("artifacts", False, f"there is no bucket gs://{bucket}", remedy)
    elif reply.forbidden:
        yield Finding("artifacts", False, f"{uri} may not be read: {reply}", _reader(bucket))
    elif not reply.passed:
        yield Finding.noted("artifacts", f"{uri} could not be looked at: {reply}")
    elif not reply.body.get("items"):
        yield Finding("artifacts", False, f"there is no object under {uri}", f"gcloud storage ls gs://{bucket}")
    else:
        yield Finding(
            "artifacts", True, f"{uri} may be read; that Vertex AI in {target.project} may read it shows in the upload"
        )


def _of_this_machine(path: Path) -> Iterator[Finding]:
    """As an upload reads them. Raises ConfigError for no folder, an empty one, links out of it, special files."""
    files = folder.walk(path)
    size = sum(each.stat().st_size for _, each in files)
    yield Finding("artifacts", True, f"{path}: {len(files)} file{'s' * (len(files) != 1)}, {size / 1e6:.1f} MB")


def _staging(target: Target, google: Google, uri: str) -> Iterator[Finding]:
    bucket = uri.removeprefix("gs://").partition("/")[0]
    create = f"gcloud storage buckets create gs://{bucket} --location={target.region} --project={target.project}"
    reply = google.get(f"{_STORAGE}/{bucket}")
    if reply.absent:
        yield Finding("staging", False, f"there is no bucket gs://{bucket}", create)
        return
    yield _writable(google, bucket)
    location = str(reply.body.get("location", "")).lower()
    if not reply.passed:
        yield Finding.noted("staging", f"where gs://{bucket} lies could not be asked: {reply}")
    elif location in _SEVERAL or reply.body.get("locationType") == "dual-region":
        yield Finding.noted("staging", f"gs://{bucket} lies in several regions ({location}), which costs more")
    elif location != target.region:
        yield Finding.noted(
            "staging",
            f"gs://{bucket} lies in {location}, and the model in {target.region}: each upload crosses regions",
            f"a bucket of the region: gcloud storage buckets create gs://NAME --location={target.region}",
        )
    else:
        yield Finding("staging", True, f"gs://{bucket} lies in {location}")


def _writable(google: Google, bucket: str) -> Finding:
    reply = google.get(f"{_STORAGE}/{bucket}/iam/testPermissions", permissions=list(_WRITES))
    if not reply.passed:
        return Finding.noted("staging", f"whether gs://{bucket} may be written to could not be asked: {reply}")
    lacking = [each for each in _WRITES if each not in reply.body.get("permissions", ())]
    if lacking:
        grant = f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --role=roles/storage.objectUser"
        detail = f"gs://{bucket}: these credentials lack {', '.join(lacking)}"
        return Finding("staging", False, detail, f"{grant} --member=MEMBER")
    return Finding("staging", True, f"gs://{bucket} may be written to")


def _reader(bucket: str) -> str:
    grant = f"gcloud storage buckets add-iam-policy-binding gs://{bucket} --role=roles/storage.objectViewer"
    return f"{grant} --member=MEMBER"
