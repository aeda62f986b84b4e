"""The metadata server that a program inside Google Cloud asks who and where it is."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from cpr_kit.emulator.proxy import tokens

FLAVOR = {"Metadata-Flavor": "Google", "Server": "Metadata Server for VM"}
ROOT = "/computeMetadata"


class Metadata:
    """`Compute Engine: about VM metadata`: leaves are text, folders are lists of names or, with recursive, JSON."""

    def __init__(self, *, project: str, number: str, region: str, email: str) -> None:
        self._email = email
        account = {"aliases": ["default"], "email": email, "scopes": list(tokens.SCOPES)}
        self._tree: dict[str, Any] = {
            "instance": {
                "id": 1,
                "name": "emulator",
                "hostname": f"emulator.{region}-a.c.{project}.internal",
                "zone": f"projects/{number}/zones/{region}-a",
                "region": f"projects/{number}/regions/{region}",
                "attributes": {},
                "service-accounts": {"default": account, email: account},
            },
            "project": {"project-id": project, "numeric-project-id": int(number), "attributes": {}},
            "universe": {"universe-domain": "googleapis.com"},
        }

    def answer(self, request: Request) -> Response:
        """The real one, too, refuses whoever lacks the header, and whoever came through a proxy: it may be a page."""
        if request.headers.get("Metadata-Flavor") != "Google" or "X-Forwarded-For" in request.headers:
            return PlainTextResponse("Missing Metadata-Flavor:Google header.\n", 403, headers=FLAVOR)
        path = request.url.path
        if path == "/":
            return PlainTextResponse("computeMetadata/\n", headers=FLAVOR)
        parts = [part for part in path.removeprefix(ROOT).split("/") if part]
        if not parts:
            return PlainTextResponse("v1/\n", headers=FLAVOR)
        if parts[0] not in {"v1", "v1beta1"}:
            return _missing()
        return self._made(parts[1:], request) or self._found(parts[1:], request)

    def _made(self, parts: list[str], request: Request) -> Response | None:
        """Tokens, which are not in the tree."""
        match parts:
            case ["instance", "service-accounts", "default" | self._email, "token"]:
                scopes = request.query_params.get("scopes", "")
                token = tokens.access_token(self._email, scopes.split(",") if scopes else tokens.SCOPES)
                body = {"access_token": token, "expires_in": tokens.LIFETIME_S - 1, "token_type": "Bearer"}
                return JSONResponse(body, headers=FLAVOR)
            case ["instance", "service-accounts", "default" | self._email, "identity"]:
                if not (audience := request.query_params.get("audience")):
                    return PlainTextResponse("non-empty audience parameter required\n", 400, headers=FLAVOR)
                return PlainTextResponse(tokens.identity_token(self._email, audience), headers=FLAVOR)
        return None

    def _found(self, parts: list[str], request: Request) -> Response:
        node: Any = self._tree
        for part in parts:
            if not isinstance(node, dict) or part not in node:
                return _missing()
            node = node[part]
        recursive = request.query_params.get("recursive", "").lower() == "true"
        as_json = request.query_params.get("alt", "json" if recursive else "text") == "json"
        if isinstance(node, dict) and not recursive:
            return PlainTextResponse("".join(_entry(name, value) for name, value in node.items()), headers=FLAVOR)
        if isinstance(node, dict) or as_json:
            body = json.dumps(_camel(node))
            return Response(body, media_type="application/json", headers=FLAVOR)
        text = "".join(f"{line}\n" for line in node) if isinstance(node, list) else str(node)
        return PlainTextResponse(text, headers={**FLAVOR, "Content-Type": "application/text"})


def _entry(name: str, value: Any) -> str:
    return f"{name}/\n" if isinstance(value, dict) else f"{name}\n"


def _camel(node: Any) -> Any:
    """Recursive answers spell names serviceAccounts; the paths, service-accounts."""
    if not isinstance(node, dict):
        return node
    return {_camel_name(name): _camel(value) for name, value in node.items()}


def _camel_name(name: str) -> str:
    first, *rest = name.split("-")
    return name if "@" in name else first + "".join(word.capitalize() for word in rest)


def _missing() -> Response:
    return PlainTextResponse("Not Found\n", 404, headers=FLAVOR)
