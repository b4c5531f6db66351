"""The HTTP edge: permission, limit, deadline and metrics of every request."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from tests.support.deadline import eventually
from token_service.core.access.gate import UseCase
from token_service.errors import RateLimitedError
from token_service.web.edge import HttpEdge, RequestLimits, refusal


class Recorded:
    """A histogram and a counter that keep their labels."""

    def __init__(self) -> None:
        self.labels: list[tuple[str, ...]] = []

    def record(self, amount: float, *labels: str) -> None:
        assert amount >= 0
        self.labels.append(labels)

    def add(self, amount: float, *labels: str) -> None:
        assert amount == 1
        self.labels.append(labels)


class Endpoints:
    """An application with an endpoint that waits for the test."""

    def __init__(self, **limits: Any) -> None:
        self.go_on = asyncio.Event()
        self.recorded, self.errors = Recorded(), Recorded()
        self.edge = HttpEdge(RequestLimits(**limits), self.recorded, errors=self.errors)
        app = Starlette(
            routes=[
                self.edge.route("/slow", UseCase.GET_KEY_SET, self.slow),
                self.edge.route("/keys", UseCase.LIST_SIGNING_KEYS, self.fast),
                self.edge.route("/healthz", UseCase.GET_HEALTH, self.fast, always=True),
            ]
        )
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://edge")

    async def slow(self, _: Request) -> Response:
        await self.go_on.wait()
        return PlainTextResponse("done")

    async def fast(self, _: Request) -> Response:
        return PlainTextResponse("ok")


async def test_requests_beyond_the_limit_are_refused_and_health_is_not() -> None:
    endpoints = Endpoints(max_requests=2)
    running = [asyncio.create_task(endpoints.client.get("/slow")) for _ in range(2)]
    await eventually(lambda: endpoints.edge.running == 2)
    refused = await endpoints.client.get("/slow")
    assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "OVERLOADED")
    assert refused.headers["retry-after"] == "1"
    assert (await endpoints.client.get("/healthz")).status_code == 200
    endpoints.go_on.set()
    assert [response.text for response in await asyncio.gather(*running)] == ["done", "done"]
    assert endpoints.edge.running == 0
    assert (await endpoints.client.get("/slow")).status_code == 200


@pytest.mark.parametrize(("wait", "shown"), [(0.01, "1"), (17.0, "17"), (17.2, "18")])
def test_refused_client_is_never_told_to_return_too_early(wait: float, shown: str) -> None:
    response = refusal(RateLimitedError(retry_after=wait))
    assert (response.status_code, response.headers["retry-after"]) == (429, shown)
    assert b"RATE_LIMITED" in response.body


async def test_request_beyond_its_deadline_is_ended() -> None:
    endpoints = Endpoints(request_deadline=0.01)
    ended = await endpoints.client.get("/slow")
    assert (ended.status_code, ended.json()["error"]["reason"]) == (504, "DEADLINE_EXCEEDED")
    assert endpoints.edge.running == 0


async def test_timeout_inside_an_endpoint_is_a_defect_and_no_deadline() -> None:
    endpoints = Endpoints()

    async def failing() -> None:
        raise TimeoutError

    endpoints.go_on.wait = failing  # type: ignore[method-assign, assignment]
    assert (await endpoints.client.get("/slow")).status_code == 500


async def test_the_gate_refuses_unidentified_callers() -> None:
    refused = await Endpoints().client.get("/keys")
    assert (refused.status_code, refused.json()["error"]["reason"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/keys", 403)])
async def test_requests_are_measured_by_route_and_status(path: str, status: int) -> None:
    endpoints = Endpoints()
    await endpoints.client.get(f"{path}?secret=1")
    assert endpoints.recorded.labels == [(path, "GET", str(status))]
    assert endpoints.errors.labels == ([] if status == 200 else [("http", "PERMISSION_DENIED")])
