"""An image to a registry and from it, with the credentials that `docker login` or a helper left."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cpr_kit.engine.protocol import Output
from cpr_kit.errors import EngineUnavailable, LackingError, RegistryError

_DENIED = re.compile(r"denied|unauthorized|authentication|forbidden|no basic auth|credentials", re.IGNORECASE)
_ABSENT = re.compile(r"not found|unknown|does not exist", re.IGNORECASE)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def push(api: Any, reference: str, output: Output) -> str:
    """Send what the registry lacks of an image; its digest there. Raises RegistryError, LackingError."""
    messages = _asked(reference, lambda: api.push(reference, stream=True, decode=True))
    said = list(_told(messages, reference, output))
    digest = _DIGEST.search(" ".join(said))
    if digest is None:
        raise RegistryError(f"{reference} was sent, but the registry named no digest", "push it again")
    return digest[0]


def pull(api: Any, reference: str, output: Output) -> None:
    """Raises RegistryError, LackingError."""
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
    if "does not exist locally" in text or text.startswith("No such image"):
        return LackingError(f"there is no image {reference} here; build it: cpr build DIR -t {reference}")
    host = reference.partition("/")[0]
    if _DENIED.search(text):
        remedy = f"log in: gcloud auth configure-docker {host}, or docker login {host}; then look at your rights there"
    elif _ABSENT.search(text):
        remedy = "look at the name; a repository of Artifact Registry is made before its first image"
    else:
        remedy = f"look whether {host} can be reached from here"
    return RegistryError(f"the registry did not take or give {reference}: {text.strip()}", remedy)
