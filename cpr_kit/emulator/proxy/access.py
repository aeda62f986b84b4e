"""What a pre-flight check asks beside Vertex AI: permissions, service accounts, repositories, services, quotas.

All of it is there and allowed but for what the settings `missing`, `denied_permissions` and `quotas` name.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cpr_kit.emulator import permissions
from cpr_kit.emulator.errors import ApiError, Code, invalid_argument, not_found
from cpr_kit.emulator.proxy import tokens
from cpr_kit.emulator.proxy.bodies import json_object
from cpr_kit.emulator.quotas import Quotas
from cpr_kit.emulator.settings import Settings

_SINCE = "2020-01-01T00:00:00Z"
_ACCOUNTS = ".gserviceaccount.com"


class Access:
    """`number_of` turns a project's id into its number."""

    def __init__(self, settings: Settings, number_of: Callable[[str], str]) -> None:
        self._settings = settings
        self._number_of = number_of

    def projects(self) -> list[Route]:
        """cloudresourcemanager.googleapis.com."""
        return [
            Route(f"/{version}/projects/{{name}}:testIamPermissions", self._test, methods=["POST"])
            for version in ("v1", "v3")
        ]

    def accounts(self) -> list[Route]:
        """iam.googleapis.com."""
        account = "/v1/projects/{project}/serviceAccounts/{email}"
        return [
            Route(f"{account}:testIamPermissions", self._test_account, methods=["POST"]),
            Route(account, self._account, methods=["GET"]),
        ]

    def repositories(self) -> list[Route]:
        """artifactregistry.googleapis.com."""
        repository = "/v1/projects/{project}/locations/{location}/repositories/{name}"
        return [
            Route(f"{repository}:testIamPermissions", self._test_repository, methods=["POST"]),
            Route(repository, self._repository, methods=["GET"]),
        ]

    def services(self) -> list[Route]:
        """serviceusage.googleapis.com."""
        service = "/{version}/projects/{project}/services/{name}"
        return [
            Route(f"{service}/consumerQuotaMetrics", self._quotas, methods=["GET"]),
            Route(service, self._service, methods=["GET"]),
        ]

    async def _test(self, request: Request) -> Response:
        """`permissions` without those that are denied; without any of them the answer is empty."""
        asked = (await json_object(request)).get("permissions", [])
        if not isinstance(asked, list) or not all(isinstance(each, str) for each in asked):
            raise invalid_argument('"permissions" must be a list of names.')
        found = permissions.granted(asked, self._settings.denied_permissions)
        return JSONResponse({"permissions": found} if found else {})

    async def _test_account(self, request: Request) -> Response:
        self._known_account(request)
        return await self._test(request)

    async def _account(self, request: Request) -> Response:
        email, project = self._known_account(request)
        self._allow("iam.serviceAccounts.get", f"projects/{project}/serviceAccounts/{email}")
        facts = {"name": f"projects/{project}/serviceAccounts/{email}", "projectId": project, "email": email}
        return JSONResponse({**facts, "uniqueId": tokens.subject(email), "displayName": email.partition("@")[0]})

    def _known_account(self, request: Request) -> tuple[str, str]:
        """An account and its project, which a user's own account has in its address."""
        email, project = request.path_params["email"], request.path_params["project"]
        if not email.endswith(_ACCOUNTS) or email in self._settings.missing:
            raise not_found(f"Unknown service account: {email}")
        own = email.partition("@")[2].partition(".")[0]
        return email, own if project == "-" else project

    async def _test_repository(self, request: Request) -> Response:
        self._known_repository(request)
        return await self._test(request)

    async def _repository(self, request: Request) -> Response:
        name = self._known_repository(request)
        self._allow("artifactregistry.repositories.get", name)
        _, project, _, location, _, repository = name.split("/")
        return JSONResponse(
            {
                "name": name,
                "format": "DOCKER",
                "mode": "STANDARD_REPOSITORY",
                "createTime": _SINCE,
                "updateTime": _SINCE,
                "registryUri": f"{location}-docker.pkg.dev/{project.replace(':', '/')}/{repository}",
            }
        )

    def _known_repository(self, request: Request) -> str:
        """Every one is there, as every push to one goes through."""
        given = request.path_params
        name = f"projects/{given['project']}/locations/{given['location']}/repositories/{given['name']}"
        if f"{given['location']}/{given['name']}" in self._settings.missing:
            raise not_found(f'Repository "{name}" not found')
        return name

    async def _service(self, request: Request) -> Response:
        name, project = request.path_params["name"], request.path_params["project"]
        parent = f"projects/{self._number_of(project)}"
        self._allow("serviceusage.services.get", f"{parent}/services/{name}")
        state = "DISABLED" if name in self._settings.missing else "ENABLED"
        facts = {"name": f"{parent}/services/{name}", "parent": parent, "state": state}
        return JSONResponse({**facts, "config": {"name": name}})

    async def _quotas(self, request: Request) -> Response:
        name, project = request.path_params["name"], request.path_params["project"]
        parent = f"projects/{self._number_of(project)}/services/{name}"
        self._allow("serviceusage.quotas.get", parent)
        return JSONResponse({"metrics": Quotas(self._settings.quotas).metrics(parent)})

    def _allow(self, needed: str, resource: str) -> None:
        if needed in self._settings.denied_permissions:
            text = f"Permission '{needed}' denied on resource '{resource}' (or it may not exist)."
            raise ApiError(Code.PERMISSION_DENIED, text)
