"""What a deployment needs, looked at before any wait: `cpr doctor --deploy`.

Nothing is changed, and nothing is raised for what Google or a registry answers: that is what the findings say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from cpr_kit.deploy.doctor import image as doctor_image
from cpr_kit.deploy.doctor import project as doctor_project
from cpr_kit.deploy.doctor import quota as doctor_quota
from cpr_kit.deploy.doctor import storage as doctor_storage
from cpr_kit.deploy.project import rules
from cpr_kit.deploy.target import Target
from cpr_kit.deploy.vertex.rest import Google
from cpr_kit.errors import CprError, LackingError, UsageError
from cpr_kit.finding import Finding

if TYPE_CHECKING:
    from cpr_kit.engine.protocol import Engine

Look = Callable[[], Iterable[Finding]]
_AT_ONCE = 6
_REMEDIES: dict[type[CprError], str] = {
    UsageError: "mend that in cpr.toml, and look again",
    LackingError: "get what is missing here, and look again",
    CprError: "mend that, and look again",
}
"""For an error that brings no remedy of its own, by its kind, the narrowest first."""


def refusal(name: str, error: CprError, otherwise: str) -> Finding:
    """A finding that failed: the error's own remedy, where it brings one, or another."""
    cause, _, remedy = str(error).partition(" | ")
    return Finding(name, False, cause, remedy or otherwise)


def findings(
    target: Target,
    engine: Engine | None,
    *,
    image: str | None = None,
    local: Look | None = None,
    google: Google | None = None,
) -> Iterator[Finding]:
    """In a fixed order; what is asked of others is asked at once.

    `image` is the image's name in the engine, where that is not the target's.
    `local` runs the image on this machine (see `doctor_image.local_run`); it comes last. `google` are the credentials
    to ask with; without it those of this machine.
    """
    yield from _rules(target)
    try:
        google = google or Google.default()
        google.renew()
    except CprError as error:
        yield refusal("credentials", error, "log in: gcloud auth application-default login")
        yield Finding.noted("Vertex AI", "neither it nor the buckets were asked: there are no credentials")
        looks = doctor_image.looks(target, engine, image)
    else:
        who = google.principal
        yield Finding("credentials", True, f"Google takes them: {who or 'a user, whose name they do not say'}")
        looks = (
            *doctor_project.looks(target, google),
            *doctor_image.looks(target, engine, image),
            *doctor_storage.looks(target, google),
            *doctor_quota.looks(target, google),
        )
    yield from _at_once(looks)
    if local is not None:
        yield from _looked(("local run", local))


def _rules(target: Target) -> Iterator[Finding]:
    """Names, region, kind, machines: what is wrong whatever exists."""
    try:
        warnings = rules.check(target)
    except CprError as error:
        yield refusal("rules", error, "mend that in cpr.toml")
        return
    where = f"{target.endpoint} in {target.region} of {target.project}"
    yield Finding("rules", True, f"{where}: {target.kind} endpoint, {target.scale.machine_type}")
    for warning in warnings:
        yield Finding.noted("rules", warning)


def _at_once(looks: Iterable[tuple[str, Look]]) -> Iterator[Finding]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for found in pool.map(_looked, looks):
            yield from found


def _looked(named: tuple[str, Look]) -> list[Finding]:
    """What one look found, and one more finding where it ended with an error of the kit's own."""
    name, look = named
    found: list[Finding] = []
    try:
        found.extend(look())
    except CprError as error:
        found.append(refusal(name, error, _REMEDIES[next(each for each in _REMEDIES if isinstance(error, each))]))
    return found
