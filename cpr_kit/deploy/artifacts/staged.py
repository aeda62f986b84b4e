"""The model's files: what they are, as one digest, and a copy of them under gs:// that is named by it.

A staged folder is gs://BUCKET[/PREFIX]/cpr-kit/artifacts/DIGEST/: the name says what is in it, so that staging the
same twice copies nothing, and staging again mends what was cut short.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpr_kit.deploy.artifacts import folder as folders
from cpr_kit.deploy.registry.progress import Progress, megabytes
from cpr_kit.deploy.vertex.calls import Report, silent
from cpr_kit.errors import ConfigError, DeployError, DeployLacking, MissingExtra

FOLDER = "cpr-kit/artifacts"
_STAGED = re.compile(rf"gs://(?P<bucket>[^/]+)/(?P<prefix>(?:.+/)?{FOLDER}/[0-9a-f]{{64}}/)")
_BUCKET = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(?P<prefix>.*))?", re.DOTALL)
_AT_ONCE = 4
_MULTI_REGIONS = {"US": "us-", "EU": "europe-", "ASIA": "asia-"}


@dataclass(frozen=True)
class _Object:
    """`name` is relative to its folder. `source` makes it: a file here, or an object's whole name."""

    name: str
    size: int
    crc32c: str
    source: Path | str


def digest(uri: str | None) -> str | None:
    """64 hexadecimal digits that stand for all files of a folder, or all objects below gs://BUCKET/FOLDER.

    A folder's are made of contents, a bucket's of what Cloud Storage says of them (CRC32C and size): they never agree.
    `LEFT_OUT` of cpr_kit.deploy.artifacts.folder does not count. None for None. Raises ConfigError, DeployError.
    """
    if uri is None:
        return None
    if not uri.startswith("gs://"):
        return folders.digest(folders.files(Path(uri)))
    bucket, prefix = _parsed(uri)
    with _storage(bucket) as client:
        return _digest_of(_source(client, bucket, prefix).values())


def stage(source: str, staging: str, digest: str, report: Report = silent, *, region: str | None = None) -> str:
    """Copy the artifacts below `staging`; the URI of the copy, complete and checked against `digest` and CRC32C.

    Objects that are right already stay; what does not belong there goes. Raises DeployError where Cloud Storage
    refuses, or where the source is no longer what `digest` stands for.
    """
    bucket, prefix = _parsed(staging)
    target = f"{prefix}{FOLDER}/{digest}/"
    uri = staged_uri(staging, digest)
    with _storage(bucket, region) as client:
        _located(client, bucket, region, report)
        wanted, upload = _wanted(client, source, digest, bucket, target)
        _fill(client, bucket, target, wanted, upload, report)
    return uri


def reach(staging: str, region: str) -> None:
    """Raises DeployError where nothing can be staged: there is no such bucket, or it may not be listed."""
    bucket, prefix = _parsed(staging)
    with _storage(bucket, region) as client:
        next(iter(client.list_blobs(bucket, prefix=prefix, max_results=1)), None)


def staged_uri(staging: str, digest: str) -> str:
    """Where `stage` puts artifacts of that digest."""
    bucket, prefix = _parsed(staging)
    return f"gs://{bucket}/{prefix}{FOLDER}/{digest}/"


def remove(uri: str) -> None:
    """Delete a staged folder, if it is there. Raises ConfigError for any other, whatever is in it."""
    match = _STAGED.fullmatch(uri)
    if match is None:
        raise ConfigError(f"{uri} is no staged folder (gs://BUCKET/.../{FOLDER}/DIGEST/); delete it yourself")
    _remove_below(match["bucket"], match["prefix"])


def remove_all(staging: str) -> None:
    """Delete all that was ever staged below `staging`, and nothing beside it."""
    bucket, prefix = _parsed(staging)
    _remove_below(bucket, f"{prefix}{FOLDER}/")


def _remove_below(name: str, prefix: str) -> None:
    with _storage(name) as client:
        from google.api_core import exceptions

        bucket = client.bucket(name)
        try:
            found = [blob.name for blob in client.list_blobs(bucket, prefix=prefix)]
        except exceptions.NotFound:  # the bucket went, and all that was in it
            return
        for each in found:
            _delete(bucket, each)


def _wanted(
    client: Any, source: str, digest: str, bucket: str, target: str
) -> tuple[Mapping[str, _Object], Callable[[_Object], None]]:
    """What is to be in the folder, and the way to get one of them there."""
    to = client.bucket(bucket)
    if not source.startswith("gs://"):
        files = list(folders.files(Path(source)))
        _unchanged(source, digest, folders.digest(files))
        return {each.name: _Object(each.name, each.size, each.crc32c, each.path) for each in files}, (
            lambda one: _uploaded(to.blob(target + one.name), one)
        )
    from_name, from_prefix = _parsed(source)
    objects = _source(client, from_name, from_prefix)
    _unchanged(source, digest, _digest_of(objects.values()))
    from_ = client.bucket(from_name)
    return objects, (lambda one: _rewritten(from_.blob(str(one.source)), to.blob(target + one.name)))


def _unchanged(source: str, before: str, now: str) -> None:
    if before != now:
        raise DeployError(
            f"the artifacts {source} changed after they were looked at ({before[:12]}, now {now[:12]})",
            "let whatever writes there finish, then run this again",
        )


def _fill(
    client: Any,
    bucket: str,
    target: str,
    wanted: Mapping[str, _Object],
    upload: Callable[[_Object], None],
    report: Report,
) -> None:
    present = _listed(client, bucket, target)
    lacking = [one for name, one in wanted.items() if not _is_right(present.get(name), one)]
    for name in present.keys() - wanted.keys():
        _delete(client.bucket(bucket), target + name)
    if not lacking:
        report(f"the artifacts are staged already: gs://{bucket}/{target}")
        return
    total = sum(one.size for one in lacking)
    report(f"staging {len(lacking)} of {len(wanted)} files ({megabytes(total)}) to gs://{bucket}/{target}")
    progress = Progress(report, "staging", total)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cpr-stage") as pool:
        running = {pool.submit(upload, one): one for one in lacking}
        try:
            for done in as_completed(running):
                done.result()
                progress.add(running[done].size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    present = _listed(client, bucket, target)
    wrong = sorted(name for name, one in wanted.items() if not _is_right(present.get(name), one))
    wrong += sorted(present.keys() - wanted.keys())
    if wrong:
        raise DeployError(
            f"gs://{bucket}/{target}{wrong[0]} is not what was sent there ({len(wrong)} in all)",
            "a file changed as it was sent, or something else writes there; run this again",
        )


def _is_right(there: _Object | None, wanted: _Object) -> bool:
    return there is not None and (there.size, there.crc32c) == (wanted.size, wanted.crc32c)


def _uploaded(blob: Any, one: _Object) -> None:
    from google.cloud.storage.retry import DEFAULT_RETRY

    # The same bytes under a name that says so: sending them twice does no harm.
    blob.upload_from_filename(str(one.source), checksum="crc32c", retry=DEFAULT_RETRY)


def _rewritten(source: Any, target: Any) -> None:
    """Within Cloud Storage; a large object takes several calls."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    token, _, _ = target.rewrite(source, retry=DEFAULT_RETRY)
    while token is not None:
        token, _, _ = target.rewrite(source, token=token, retry=DEFAULT_RETRY)


def _delete(bucket: Any, name: str) -> None:
    from google.api_core import exceptions
    from google.cloud.storage.retry import DEFAULT_RETRY

    with contextlib.suppress(exceptions.NotFound):  # gone already: a repeated call, or another run
        bucket.blob(name).delete(retry=DEFAULT_RETRY)


def _source(client: Any, bucket: str, prefix: str) -> Mapping[str, _Object]:
    found = _listed(client, bucket, prefix)
    if not found:
        raise DeployError(
            f"there are no objects below gs://{bucket}/{prefix}", "artifacts are a folder: look at the name, or copy it"
        )
    return found


def _listed(client: Any, bucket: str, prefix: str) -> dict[str, _Object]:
    """By name below `prefix`. Empty objects whose names end in a slash are the console's folders."""
    return {
        blob.name.removeprefix(prefix): _Object(blob.name.removeprefix(prefix), blob.size, blob.crc32c, blob.name)
        for blob in client.list_blobs(bucket, prefix=prefix)
        if not (blob.name.endswith("/") and not blob.size)
    }


def _digest_of(objects: Any) -> str:
    whole = hashlib.sha256()
    for one in sorted(objects, key=lambda each: each.name):
        name = one.name.encode()
        whole.update(len(name).to_bytes(8, "big") + name + f"{one.size} {one.crc32c}\n".encode())
    return whole.hexdigest()


def _parsed(uri: str) -> tuple[str, str]:
    """Bucket and prefix; the prefix ends with a slash, so that gs://b/model is not gs://b/model2."""
    match = _BUCKET.fullmatch(uri)
    if match is None:
        raise ConfigError(f'"{uri}" is no place in Cloud Storage; it is written gs://BUCKET or gs://BUCKET/FOLDER')
    prefix = (match["prefix"] or "").strip("/")
    return match["bucket"], f"{prefix}/" if prefix else ""


def _located(client: Any, bucket: str, region: str | None, report: Report) -> None:
    """A bucket in another region works, but slowly and at a price; whoever may not look at it is told nothing."""
    from google.api_core import exceptions

    if region is None:
        return
    try:
        location = str(client.get_bucket(bucket).location or "")
    except exceptions.Forbidden:
        return
    inside = _MULTI_REGIONS.get(location)
    if location and location.lower() != region and not (inside and region.startswith(inside)):
        report(f"warning: the bucket gs://{bucket} is in {location.lower()}, and the model is uploaded in {region}")


@contextlib.contextmanager
def _storage(bucket: str, region: str | None = None) -> Iterator[Any]:
    """A client; the library's errors come out as ours."""
    try:
        import google.auth.exceptions
        import requests
        from google.api_core import exceptions
        from google.cloud import storage  # type: ignore[attr-defined]
    except ImportError as error:
        raise MissingExtra("google-cloud-storage", "vertex") from error
    try:
        # No project: objects belong to their bucket's, and credentials of a person may name none.
        with contextlib.closing(storage.Client(project=None)) as client:
            yield client
    except exceptions.NotFound as error:
        raise DeployLacking(
            f"there is no bucket gs://{bucket}",
            f"make it: gcloud storage buckets create gs://{bucket} --location={region or 'REGION'}",
        ) from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise DeployError(
            f"gs://{bucket} may not be used: {error.message}",
            f"you need roles/storage.objectAdmin on it: gcloud storage buckets add-iam-policy-binding gs://{bucket} "
            "--member=user:YOU --role=roles/storage.objectAdmin",
        ) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise DeployLacking(
            f"gs://{bucket} cannot be asked: {error}", "log in: gcloud auth application-default login"
        ) from error
    except (exceptions.GoogleAPIError, requests.RequestException) as error:
        raise DeployError(
            f"gs://{bucket} does not do as asked: {error}", "run this again: what arrived is kept"
        ) from error
