"""PredictionService's calls, from a caller's bytes or message to a container and back; REST and gRPC share them."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import aiohttp
from google.api import httpbody_pb2

from cpr_kit.emulator.errors import failed_precondition, invalid_argument, unimplemented
from cpr_kit.emulator.predict import bodies, headers, limits, mapping
from cpr_kit.emulator.predict.containers import Containers, Reply, Request
from cpr_kit.emulator.predict.target import DeployedModel, Endpoint, pick
from cpr_kit.emulator.settings import Settings

_OK, _NOT_OK = 200, 300
_JSON = {"content-type": "application/json"}
_ON_THE_WIRE = re.compile(r"/[!-~]+")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class MessageAnswer:
    """`body` is an HttpBody; `metadata` belongs into the call's initial metadata."""

    body: Any
    metadata: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StreamAnswer:
    """`chunks` may raise ApiError midway: cut the connection then. Call `close` whatever happens."""

    status: int
    headers: Mapping[str, str]
    reply: Reply

    def chunks(self) -> AsyncIterator[bytes]:
        return self.reply.chunks()

    def close(self) -> None:
        self.reply.close()


class Predictions:
    """Every method belongs on the loop of `session` (see containers.open_session) and raises ApiError."""

    def __init__(
        self, session: aiohttp.ClientSession, settings: Settings | None = None, rng: random.Random | None = None
    ) -> None:
        self._settings = settings or Settings()
        self._containers = Containers(session, self._settings)
        self._rng = rng or random.Random()  # noqa: S311 -- shares of traffic are no secret

    async def predict_json(self, endpoint: Endpoint, body: bytes) -> Answer:
        """`:predict` over REST."""
        limits.allow(endpoint, "predict")
        limits.check_request(endpoint, len(body), self._settings)
        model = self._pick(endpoint)
        asked = bodies.to_container(endpoint, body)
        answer = await self._predict(endpoint, model, asked)
        return Answer(status=_OK, headers=headers.PREDICTION, body=answer.json(endpoint, model))

    async def predict_message(self, endpoint: Endpoint, request: Any) -> Any:
        """Predict over gRPC: PredictRequest to PredictResponse."""
        with mapping.in_trailers():
            limits.allow(endpoint, "predict")
            limits.check_request(endpoint, request.ByteSize(), self._settings)
            model = self._pick(endpoint)
            answer = await self._predict(endpoint, model, bodies.message_to_container(request))
            return answer.message(model)

    async def private(self, endpoint: Endpoint, deployed_model_id: str, body: bytes, sent: Mapping[str, str]) -> Answer:
        """`/v1/models/DM:predict` at a private endpoint's own host: body and answer pass as they are (UNCONFIRMED)."""
        limits.check_request(endpoint, len(body), self._settings)
        model = pick(endpoint, self._rng, deployed_model_id)
        return await self._whole(endpoint, model, body, sent, identify=False)

    async def raw(self, endpoint: Endpoint, body: bytes, sent: Mapping[str, str]) -> Answer:
        """`:rawPredict`: body and Content-Type go both ways untouched, and so does the container's status."""
        limits.allow(endpoint, "rawPredict")
        limits.check_request(endpoint, len(body), self._settings)
        return await self._whole(endpoint, self._pick(endpoint), body, sent, identify=True)

    async def raw_message(self, endpoint: Endpoint, body: Any, sent: Mapping[str, str] | None = None) -> MessageAnswer:
        """The same over gRPC, from the request's HttpBody and the caller's metadata. A status of 300 up is an error."""
        with mapping.in_trailers():
            answer = await self.raw(endpoint, body.data, {**(sent or {}), "content-type": body.content_type})
            if answer.status >= _NOT_OK:
                raise mapping.refused(answer.status, answer.body, self._settings)
            message = httpbody_pb2.HttpBody(content_type=answer.headers.get("content-type", ""), data=answer.body)
            return MessageAnswer(body=message, metadata=headers.own(answer.headers))

    async def stream(self, endpoint: Endpoint, body: bytes, sent: Mapping[str, str]) -> StreamAnswer:
        """`:streamRawPredict`. The limit of the answer's size does not count here (UNCONFIRMED), that of time does."""
        limits.allow(endpoint, "streamRawPredict")
        limits.check_request(endpoint, len(body), self._settings)
        return await self._stream(endpoint, self._pick(endpoint), body, sent)

    async def stream_messages(
        self, endpoint: Endpoint, body: Any, sent: Mapping[str, str] | None = None
    ) -> AsyncIterator[Any]:
        """The same over gRPC: HttpBody messages as the chunks come. Close it (`aclose`) if you stop early."""
        with mapping.in_trailers():
            answer = await self.stream(endpoint, body.data, {**(sent or {}), "content-type": body.content_type})
            try:
                if answer.status >= _NOT_OK:
                    text = await self._read(endpoint, answer.reply)
                    raise mapping.refused(answer.status, text, self._settings)
                content_type = answer.headers.get("content-type", "")
                async for chunk in answer.chunks():
                    yield httpbody_pb2.HttpBody(content_type=content_type, data=chunk)
            finally:
                answer.close()

    async def invoke(
        self, endpoint: Endpoint, path: str, body: bytes, sent: Mapping[str, str], deployed_model_id: str = ""
    ) -> StreamAnswer:
        """`/invoke/PATH`: `path` as on the wire, percent-encoded and with its query (ModelContainerSpec)."""
        limits.allow(endpoint, "invoke")
        limits.check_request(endpoint, len(body), self._settings)
        model = pick(endpoint, self._rng, deployed_model_id)
        if not model.invoke:
            raise mapping.no_invoke_route(model)
        if not _ON_THE_WIRE.fullmatch(path):
            raise invalid_argument(f"The path to invoke is {path!r}; it starts with a slash and is not the root.")
        return await self._stream(endpoint, model, body, sent, path)

    def chat(self, endpoint: Endpoint) -> NoReturn:
        """`/chat/completions`: no document says which route of a custom container it reaches."""
        limits.allow(endpoint, "chat")
        raise unimplemented(
            f"chat/completions is not served here ({endpoint.name}): which route of a custom container Vertex AI asks "
            'is not documented. Use rawPredict, or invoke with a model that has invokeRoutePrefix "/*".'
        )

    def explain(self, endpoint: Endpoint, deployed_model_id: str = "") -> NoReturn:
        """`:explain` (ExplainRequest): never served, for the reason that is given."""
        limits.allow(endpoint, "explain")
        model = pick(endpoint, self._rng, deployed_model_id)
        if not model.explanation:
            raise failed_precondition(
                f"DeployedModel {model.id} ({model.model}) does not support explain: it has no explanationSpec. "
                "Give one when you upload the model (explanation_metadata, explanation_parameters)."
            )
        raise unimplemented(
            f"explain is not served here: the attributions of DeployedModel {model.id} ({model.model}) "
            "come from a service of Vertex AI, not from its container."
        )

    def direct(self, endpoint: Endpoint, verb: limits.Verb) -> NoReturn:
        """DirectPredict and its kin, which are for containers that speak gRPC (ModelContainerSpec.grpcPorts)."""
        limits.allow(endpoint, verb)
        model = pick(endpoint, self._rng)
        if not model.grpc:
            raise failed_precondition(
                f"{verb} needs a container that serves gRPC, and DeployedModel {model.id} ({model.model}) does not: "
                "its containerSpec has no grpcPorts. Use predict or rawPredict."
            )
        raise unimplemented(f"{verb} is not served here: requests to containers go over HTTP alone.")

    def _pick(self, endpoint: Endpoint) -> DeployedModel:
        """For the calls that go to the predict route, which a model with invokeRoutePrefix does not have."""
        model = pick(endpoint, self._rng)
        if model.invoke:
            raise mapping.invoke_alone(model)
        return model

    async def _predict(self, endpoint: Endpoint, model: DeployedModel, asked: bodies.Asked) -> bodies.PredictionAnswer:
        reply = await self._ask(endpoint, model, asked.body, _JSON)
        try:
            body = await self._read(endpoint, reply)
        finally:
            reply.close()
        if not _OK <= reply.status < _NOT_OK:
            raise mapping.refused(reply.status, body, self._settings)
        return bodies.PredictionAnswer(body, asked, self._settings)

    async def _whole(
        self, endpoint: Endpoint, model: DeployedModel, body: bytes, sent: Mapping[str, str], *, identify: bool
    ) -> Answer:
        reply = await self._ask(endpoint, model, body, headers.to_container(sent, self._settings))
        try:
            content = await self._read(endpoint, reply)
        finally:
            reply.close()
        back = headers.to_caller(reply.headers, self._settings)
        if identify:
            back |= headers.identity(endpoint, model, self._settings)
        return Answer(status=reply.status, headers=back, body=content)

    async def _stream(
        self, endpoint: Endpoint, model: DeployedModel, body: bytes, sent: Mapping[str, str], path: str = ""
    ) -> StreamAnswer:
        reply = await self._ask(endpoint, model, body, headers.to_container(sent, self._settings), path)
        back = headers.to_caller(reply.headers, self._settings) | headers.identity(endpoint, model, self._settings)
        return StreamAnswer(status=reply.status, headers=back, reply=reply)

    async def _ask(
        self, endpoint: Endpoint, model: DeployedModel, body: bytes, sent: Mapping[str, str], path: str = ""
    ) -> Reply:
        timeout_s = limits.timeout_s(endpoint)
        return await self._containers.ask(Request(model=model, body=body, headers=sent, timeout_s=timeout_s, path=path))

    async def _read(self, endpoint: Endpoint, reply: Reply) -> bytes:
        limit = limits.max_body(endpoint)
        return await reply.read(limit, limits.too_large("Response", limit, self._settings))
