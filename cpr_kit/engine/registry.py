"""An image to a registry and from it, with the credentials that `docker login` or a helper left.

Under `cpr emulate`, CPR_REGISTRY says where the names at Google's registries are instead: at HOST:PORT, or in the
engine alone.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cpr_kit.engine.protocol import Image, Output
from cpr_kit.errors import EngineUnavailable, LackingError, RegistryError

VARIABLE = "CPR_REGISTRY"
ENGINE = "engine"

_DENIED = re.compile(r"denied|unauthorized|authentication|forbidden|no basic auth|credentials", re.IGNORECASE)
_ABSENT = re.compile(r"not found|unknown|does not exist", re.IGNORECASE)
_FAILING = re.compile(r"HTTP status: 5\d\d|no space left", re.IGNORECASE)
_BROKEN = re.compile(r"closed network connection|reset by peer|broken pipe|\bEOF\b|i/o timeout", re.IGNORECASE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_googles(reference: str) -> bool:
    """Whether an image is named at Artifact Registry, or at Container Registry before it."""
    host, slash, _ = reference.partition("/")
    return bool(slash) and (host.endswith(("-docker.pkg.dev", ".gcr.io")) or host == "gcr.io")


def emulated(reference: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """Where an image is pushed to and pulled from instead: HOST:PORT, or ENGINE. None: where its name says."""
    return (environ.get(VARIABLE) or None) if is_googles(reference) else None


def here(reference: str, environ: Mapping[str, str] = os.environ) -> str:
    """What the engine calls an image. A digest at Google's registries is a name that only they could give it, so under
    `cpr emulate` it is a tag, or, where images stay in the engine, the image's id.
    """
    name, at, digest = reference.partition("@")
    where = emulated(reference, environ)
    if not at or where is None:
        return reference
    return digest if where == ENGINE else f"{_parts(name)[0]}:{digest.replace(':', '-')}"


def kept(image: Image | None, reference: str) -> str:
    """The answer to a push that leaves the image where it is. Raises LackingError when there is none."""
    if image is None:
        raise _absent(reference)
    return image.id


def push(api: Any, reference: str, output: Output, *, auth: Mapping[str, str] | None = None) -> str:
    """Send what the registry lacks of an image; its digest there. Raises RegistryError, LackingError.

    `auth` (username, password) goes before what `docker login` or a helper left. `output` also gets the bytes of a
    layer as they go: "LAYER Pushing DONE/TOTAL".
    """
    where = emulated(reference)
    if where == ENGINE:
        return str(_asked(reference, lambda: api.inspect_image(reference))["Id"])
    if where is None:
        return _push(api, reference, output, auth)
    with _named(api, f"{where}/{reference}") as there:
        tag(api, reference, there)
        return _push(api, there, output, {})


def pull(api: Any, reference: str, output: Output) -> None:
    """Raises RegistryError, LackingError."""
    where = emulated(reference)
    if where is None:
        _pull(api, reference, output)
        return
    if where == ENGINE:
        _asked(reference, lambda: api.inspect_image(here(reference)))
        return
    with _named(api, f"{where}/{reference}") as there:
        try:
            _pull(api, there, output)
        except RegistryError as error:
            cause = str(error).partition(" | ")[0]
            raise RegistryError(
                cause, f"under cpr emulate only what was pushed is there: docker push {reference}"
            ) from error
        tag(api, there, here(reference))


@contextlib.contextmanager
def _named(api: Any, there: str) -> Iterator[str]:
    """A name of the emulator's registry, which is taken from the image afterwards."""
    import docker

    try:
        yield there
    finally:
        with contextlib.suppress(docker.errors.APIError, OSError):  # it may never have got the name
            api.remove_image(there)


def _push(api: Any, reference: str, output: Output, auth: Mapping[str, str] | None) -> str:
    given = None if auth is None else dict(auth)
    messages = _asked(reference, lambda: api.push(reference, stream=True, decode=True, auth_config=given))
    said = list(_told(_counted(messages, output), reference, output))
    digest = _DIGEST.search(" ".join(said))
    if digest is None:
        raise RegistryError(f"{reference} was sent, but the registry named no digest", "push it again")
    return digest[0]


def _counted(messages: Iterable[Mapping[str, Any]], output: Output) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        counts = message.get("progressDetail") or {}
        if counts.get("current") and message.get("id"):
            done = counts["current"]
            output(f"{message['id']} {message['status']} {done}/{counts.get('total') or done}")
        yield message


def _pull(api: Any, reference: str, output: Output) -> None:
    repository, tag = _parts(reference)
    messages = _asked(reference, lambda: api.pull(repository, tag=tag, stream=True, decode=True))
    for _ in _told(messages, reference, output):
        pass


def tag(api: Any, source: str, target: str) -> None:
    """Give an image a second name. Raises LackingError when this engine does not have it."""
    repository, name = _parts(target)
    _asked(source, lambda: api.tag(source, repository, name))


def _parts(reference: str) -> tuple[str, str]:
    from docker.utils import parse_repository_tag

    repository, name = parse_repository_tag(reference)
    return repository, name or "latest"


def _asked(reference: str, question: Callable[[], Any]) -> Any:
    import docker

    try:
        return question()
    except docker.errors.APIError as error:
        raise _refused(reference, str(error.explanation or error)) from error
    except (docker.errors.DockerException, OSError) as error:
        if "Credentials store" in str(error):
            raise RegistryError(
                f"no login for {reference}: {error}", "mend credsStore of docker's config.json"
            ) from error
        raise EngineUnavailable(f"the Docker Engine no longer answers ({error}); start it again") from error


def _told(messages: Iterable[Mapping[str, Any]], reference: str, output: Output) -> Iterable[str]:
    for message in messages:
        if "error" in message:
            raise _refused(reference, str(message["error"]))
        if message.get("status") and "progress" not in message:
            line = f"{message.get('id', '')} {message['status']}".strip()
            output(line)
            yield line
        if digest := (message.get("aux") or {}).get("Digest"):
            yield str(digest)


def _refused(reference: str, text: str) -> RegistryError | LackingError:
    if "does not exist locally" in text or text.lower().startswith("no such image"):
        return _absent(reference)
    host = reference.partition("/")[0]
    if _DENIED.search(text):
        remedy = f"log in: gcloud auth configure-docker {host}, or docker login {host}; then look at your rights there"
    elif _ABSENT.search(text):
        remedy = "look at the name; a repository of Artifact Registry is made before its first image"
    elif _FAILING.search(text):
        remedy = f"{host} itself fails: look at its log and whether its disk is full, then run this again"
    elif _BROKEN.search(text):
        remedy = f"the connection to {host} broke; run this again: what arrived is kept"
    else:
        remedy = f"look whether {host} can be reached from here"
    return RegistryError(f"the registry did not take or give {reference}: {text.strip()}", remedy)


def _absent(reference: str) -> LackingError:
    return LackingError(f"there is no image {reference} here; build it: cpr build DIR -t {reference}")
