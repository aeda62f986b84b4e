"""The number of a project, by Resource Manager: it is in the name of the project's service agent."""

from __future__ import annotations

from cpr_kit.deploy.vertex.rest import Google
from cpr_kit.errors import CprError

HOST = "https://cloudresourcemanager.googleapis.com"


def look_up(project: str, google: Google | None = None) -> tuple[str | None, str]:
    """The number, or None and why it could not be had. Raises nothing for that: a plan is made without it as well."""
    try:
        reply = (google or Google.default()).get(f"{HOST}/v1/projects/{project}")
    except CprError as error:
        return None, str(error)
    number = reply.body.get("projectNumber")
    if reply.status != 200 or not number:  # noqa: PLR2004
        return None, str(reply)
    return str(number), ""
