"""The management of streams over HTTP (SSF 1.0, section 8.1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from token_service.core.event_streams.management import ReceiverStreams
from token_service.core.event_streams.stream import EventStream
from token_service.errors import InvalidRequestError
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.errors import NO_STORE
from token_service.web.ssf.configurations import Configurations
from token_service.web.ssf.requests import json_of, receiver, stream_id_in_query, text_in

CONFIGURATION_METHODS: Final = ("GET", "POST", "PATCH", "PUT", "DELETE")
STATUS_METHODS: Final = ("GET", "POST")


class StreamEndpoints:
    """The configuration, status, subject and verification endpoints."""

    def __init__(self, callers: HttpCallers, streams: ReceiverStreams, issuer: str) -> None:
        self._callers = callers
        self._streams = streams
        self._configurations = Configurations(issuer)
        self._by_method: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
            "GET": self._read,
            "HEAD": self._read,
            "POST": self._create,
            "PATCH": self._update,
            "PUT": self._replace,
            "DELETE": self._delete,
        }

    async def configuration(self, request: Request) -> Response:
        """Answer a request to the configuration endpoint. Raises `ServiceError`."""
        return await self._by_method[request.method](request)

    async def status(self, request: Request) -> Response:
        """Answer a request to the status endpoint. Raises `ServiceError`."""
        caller = await receiver(self._callers, request)
        if request.method != "POST":
            stream_id = stream_id_in_query(request)
            if not stream_id:
                raise InvalidRequestError.of("stream_id", "is required")
            return _answer(_status(await self._streams.get(caller, stream_id)))
        body = await json_of(request)
        stream = await self._streams.set_status(
            caller,
            text_in(body, "stream_id", required=True),
            text_in(body, "status", required=True),
            text_in(body, "reason"),
        )
        return _answer(_status(stream))

    async def add_subject(self, request: Request) -> Response:
        """Answer a request to the add subject endpoint. Raises `ServiceError`."""
        caller = await receiver(self._callers, request)
        body = await json_of(request)
        if not isinstance(body.get("verified", True), bool):
            raise InvalidRequestError.of("verified", "must be true or false")
        await self._streams.add_subject(
            caller, text_in(body, "stream_id", required=True), body.get("subject")
        )
        return Response(status_code=200, headers=NO_STORE)

    async def remove_subject(self, request: Request) -> Response:
        """Answer a request to the remove subject endpoint. Raises `ServiceError`."""
        caller = await receiver(self._callers, request)
        body = await json_of(request)
        await self._streams.remove_subject(
            caller, text_in(body, "stream_id", required=True), body.get("subject")
        )
        return Response(status_code=204, headers=NO_STORE)

    async def verify(self, request: Request) -> Response:
        """Answer a request to the verification endpoint. Raises `ServiceError`."""
        caller = await receiver(self._callers, request)
        body = await json_of(request)
        await self._streams.verify(caller, text_in(body, "stream_id", required=True), text_in(body, "state"))
        return Response(status_code=204, headers=NO_STORE)

    async def _read(self, request: Request) -> Response:
        caller = await receiver(self._callers, request)
        stream_id = stream_id_in_query(request)
        if stream_id:
            return _answer(self._configurations.document(await self._streams.get(caller, stream_id)))
        streams = await self._streams.list(caller)
        return JSONResponse([self._configurations.document(each) for each in streams], headers=NO_STORE)

    async def _create(self, request: Request) -> Response:
        caller = await receiver(self._callers, request)
        settings = self._configurations.created(await json_of(request))
        stream = await self._streams.create(caller, settings)
        return _answer(self._configurations.document(stream), 201)

    async def _update(self, request: Request) -> Response:
        caller = await receiver(self._callers, request)
        body = await json_of(request)
        stream = await self._streams.configure(
            caller,
            text_in(body, "stream_id", required=True),
            lambda stream: self._configurations.updated(body, stream),
        )
        return _answer(self._configurations.document(stream))

    async def _replace(self, request: Request) -> Response:
        caller = await receiver(self._callers, request)
        body = await json_of(request)
        stream = await self._streams.configure(
            caller,
            text_in(body, "stream_id", required=True),
            lambda stream: self._configurations.replaced(body, stream),
        )
        return _answer(self._configurations.document(stream))

    async def _delete(self, request: Request) -> Response:
        caller = await receiver(self._callers, request)
        stream_id = stream_id_in_query(request)
        if not stream_id:
            raise InvalidRequestError.of("stream_id", "is required")
        await self._streams.delete(caller, stream_id)
        return Response(status_code=204, headers=NO_STORE)


def _status(stream: EventStream) -> dict[str, Any]:
    reason = {"reason": stream.reason} if stream.reason else {}
    return {"stream_id": stream.stream_id, "status": stream.status.value, **reason}


def _answer(body: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(body, status, headers=NO_STORE)
