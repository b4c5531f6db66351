"""Valid HTTP requests with mutations, and hostile ones, against the endpoints of a running node.

For each request: an answer in time, below status 500, in the shape of its endpoint, and without a secret of the request.
Afterwards: no unexpected error and no secret in the log, no secret in the database, bounded memory, and an honest client is served.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import parse_qsl

import psutil

from tests.faults.http_mutations import mutated
from tests.faults.http_requests import (
    BROWSER_PATHS,
    POLICY,
    REDIRECTS,
    UNREACHABLE,
    Request,
    Secrets,
    Shapes,
    urlencoded,
)
from tests.integration.oauth.identity_provider import IdentityProvider
from tests.integration.oauth.node import OAuthNode

SETTINGS = {
    "TOKEN_SERVICE_LOG_LEVEL": "debug",
    "TOKEN_SERVICE_CLIENT_METADATA_DOCUMENTS": "true",
    "TOKEN_SERVICE_CLIENT_METADATA_DOCUMENT_HOSTS": "localhost",
    "TOKEN_SERVICE_TRUSTED_PROXIES": "127.128.0.0/9",  # half of the addresses that requests come from
}
"""The settings of a node, with everything that the requests use."""
_DEADLINE = 60.0
"""Seconds an answer may take. The node ends a request earlier, with a status that is a violation."""
_CONCURRENT = 8
_WARM_UP = 500
"""Requests before memory is measured."""
_MAX_GROWTH = 96 * 2**20
_ERRORS = frozenset(
    {
        "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
        "invalid_scope", "invalid_target", "invalid_token", "insufficient_scope", "unsupported_token_type",
        "access_denied", "temporarily_unavailable", "login_required", "consent_required", "unsupported_response_type",
        "authorization_pending", "slow_down", "expired_token", "invalid_dpop_proof", "use_dpop_nonce",
    }
)  # fmt: skip
"""The error codes that an endpoint may answer. `server_error` is a defect."""
_DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")
"""The characters of `error_description` (RFC 6749, section 5.2)."""


class Violation(AssertionError):  # noqa: N818  # not an error of the program
    """An answer broke a rule."""


@dataclass
class Tally:
    """The counts of a run: of answers by path and status, and of broken requests without an answer."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    unanswered: int = 0
    grown: int = 0
    """Bytes by which the memory of the node grew after the first requests."""

    def statuses(self, path: str) -> set[int]:
        """Return the statuses of the answers of a path."""
        return {status for each, status in self.answers if each == path}

    def __str__(self) -> str:
        by_path: dict[str, list[str]] = {}
        for (path, status), count in sorted(self.answers.items()):
            by_path.setdefault(path, []).append(f"{status} {count:,}")
        lines = [f"  {path}: {', '.join(counts)}" for path, counts in by_path.items()]
        return "\n".join(
            [
                f"{self.answers.total():,} answers, {self.unanswered:,} broken requests without one, {self.grown / 2**20:.0f} MiB more memory",
                *lines,
            ]
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for each, value in self.headers if each == name]

    def one(self, name: str) -> str:
        """Return the value of a header that may be sent once; empty: not sent."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is sent {len(values)} times"
        return values[0] if values else ""


class HttpFuzz:
    """A run determined by its seed, except for keys, tokens and the order of concurrent requests."""

    def __init__(self, node: OAuthNode, shapes: Shapes, seed: int) -> None:
        self._node = node
        self._shapes = shapes
        self._random = random.Random(seed)
        self.tally = Tally()

    async def run(self, count: int) -> Tally:
        """Send `count` requests. Raises `Violation` at the first answer that breaks a rule."""
        await self._send(min(count, _WARM_UP))
        before = self._memory()
        await self._send(count - _WARM_UP)
        self.tally.grown = self._memory() - before
        if self.tally.grown > _MAX_GROWTH:
            raise Violation(f"the memory of the node grew by {self.tally.grown / 2**20:.0f} MiB")
        await self._honest_clients_are_served()
        self._nothing_is_kept(self._shapes.secrets)
        return self.tally

    async def _send(self, count: int) -> None:
        left = iter(range(count))

        async def sender() -> None:
            for _ in left:
                request, secrets = self._next()
                await self._try(request, secrets)

        async with asyncio.TaskGroup() as group:
            for _ in range(_CONCURRENT):
                group.create_task(sender())

    def _next(self) -> tuple[Request, Sequence[str]]:
        request = self._shapes.any(self._random)
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 3))):
            request = mutated(self._random, request, self._shapes)
        return request, self._shapes.secrets.in_(request)

    async def _try(self, request: Request, secrets: Sequence[str]) -> None:
        data = request.encode()
        # Failures are counted by address, so each request has an address of its own: all of 127/8 is loopback.
        address = f"127.{self._random.randrange(1, 255)}.{self._random.randrange(256)}.{self._random.randrange(1, 255)}"
        try:
            answer = await asyncio.wait_for(self._exchange(data, address, request.whole), _DEADLINE)
        except TimeoutError:
            raise Violation(f"no answer within {_DEADLINE:g} s to {data[:4000]!r}") from None
        if answer is None:
            self.tally.unanswered += 1
            if request.whole:
                raise Violation(f"no answer to {data[:4000]!r}")
            return
        self.tally.answers[request.known_path or "other", answer.status] += 1
        try:
            check(request, answer, secrets)
        except (AssertionError, ValueError, KeyError) as error:
            raise Violation(f"{error}: {data[:4000]!r} was answered {answer!r}") from None

    async def _exchange(self, data: bytes, address: str, whole: bool) -> Answer | None:  # noqa: FBT001
        host, _, port = self._node.http_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(address, 0))
        try:
            writer.write(data)
            if whole:
                return await _read(reader)
            try:
                return await asyncio.wait_for(_read(reader), 0.02)
            except TimeoutError:
                return None
        except (ConnectionError, asyncio.IncompleteReadError):
            return None
        finally:
            writer.close()

    async def _honest_clients_are_served(self) -> None:
        for request in self._shapes.honest():
            answer = await asyncio.wait_for(self._exchange(request.encode(), "127.0.0.1", True), _DEADLINE)
            if answer is None or answer.status != 200:
                raise Violation(f"an honest request is not served any longer: {answer!r}")

    def _nothing_is_kept(self, secrets: Secrets) -> None:
        kept = [self._node.log_text().encode()]
        kept += [file.read_bytes() for file in self._node.data_dir.glob("*.db*")]
        for data in kept:
            found = secrets.pattern.search(data)
            if found is not None:
                around = data[max(0, found.start() - 200) : found.end() + 50]
                raise Violation(f"the log or the database has a secret of a request: {around!r}")

    def _memory(self) -> int:
        size: int = psutil.Process(self._node.pid).memory_info().rss
        return size


def check(request: Request, answer: Answer, secrets: Sequence[str]) -> None:
    """Raise `AssertionError` with the rule that an answer breaks. `secrets`: those of the request."""
    assert answer.status < 500 or (answer.status == 503 and _leads_nowhere(request)), "a defect"
    if 300 <= answer.status < 400 and answer.status != 304:
        _check_redirect(request, answer)
    shown = _without_state(request, answer)
    for secret in secrets:
        assert secret.encode() not in shown, "the answer repeats a secret of the request"
    if request.known_path is None or answer.status in {404, 405} or not request.whole:
        return
    if request.is_oauth:
        _check_oauth(request, answer)
    elif request.path in BROWSER_PATHS and answer.status != 303:
        _check_page(answer)


def _check_redirect(request: Request, answer: Answer) -> None:
    assert answer.status == 303, "a redirect that may repeat a body"
    assert request.requested_path in BROWSER_PATHS, "a redirect"
    assert _is_allowed(answer.one("location")), "a redirect to elsewhere"
    assert answer.one("cache-control") == "no-store", "the answer may be cached"


def _is_allowed(location: str) -> bool:
    return location.partition("?")[0] in REDIRECTS


def _without_state(request: Request, answer: Answer) -> bytes:
    """Return what an answer shows, except `state` of the request on its way to a registered URI."""
    headers = [(name, value) for name, value in answer.headers if name != "location"]
    location, body = answer.one("location"), answer.body
    form = urlencoded(request.form) if request.body is None or request.in_query else request.body
    states = {value for name, value in parse_qsl(form.decode("latin-1")) if name == "state"}
    if answer.status == 303 and _is_allowed(location):
        start, _, query = location.partition("?")
        answered = parse_qsl(query, keep_blank_values=True)
        location = repr([start, *(pair for pair in answered if pair[0] != "state" or pair[1] not in states)])
    posts_to = re.search(rb'<form method="post" action="([^"]*)">', body)
    if posts_to is not None and unescape(posts_to[1].decode()) in REDIRECTS:
        shown = re.search(rb'name="state" value="([^"]*)"', body)
        if shown is not None and unescape(shown[1].decode()) in states:
            body = body.replace(shown[0], b"")
    return body + repr([*headers, ("location", location)]).encode()


def _check_page(answer: Answer) -> None:
    assert answer.one("cache-control") == "no-store", "the answer may be cached"
    assert answer.one("content-type") == "text/html; charset=utf-8", "not a page"
    assert answer.one("x-frame-options") == "DENY", "a page that can be framed"
    policy = answer.one("content-security-policy")
    assert "default-src 'none'; " in policy, "a page without a Content-Security-Policy"
    assert "frame-ancestors 'none'; " in policy, "a page that can be framed"


def _leads_nowhere(request: Request) -> bool:
    return any(name == "client_id" and value.startswith(UNREACHABLE) for name, value in request.form)


def _check_oauth(request: Request, answer: Answer) -> None:
    assert answer.one("cache-control") == "no-store", "the answer may be cached"
    if answer.status == 200 and not answer.body:
        return  # a revocation, or an answer to HEAD
    if answer.status == 204:
        return
    if request.method == "HEAD":
        assert not answer.body, "a body in an answer to HEAD"
        return
    assert answer.one("content-type") == "application/json", "not JSON"
    body = json.loads(answer.body)
    assert isinstance(body, dict), "not an object"
    assert None not in body.values(), "a null field"
    if answer.status in {200, 201}:
        return
    assert body["error"] in _ERRORS, "an unknown error code"
    assert _DESCRIPTION.fullmatch(body["error_description"]), "a character that error_description can't have"
    assert answer.status != 401 or answer.one("www-authenticate"), "401 needs a challenge"
    assert answer.status not in {429, 503} or answer.one("retry-after"), "no Retry-After"


async def _read(reader: asyncio.StreamReader) -> Answer | None:
    """Read one answer; None: the connection ended without one."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    status = int(first.split(" ", 2)[1])
    if status == 100:
        return await _read(reader)
    pairs = [line.split(": ", 1) for line in lines]
    headers = [(name.lower(), value) for name, value in pairs]
    length = int(dict(headers).get("content-length", "0"))
    body = b"" if status in {204, 304} else await _body(reader, length)
    return Answer(status, headers, body)


async def run_one(seed: int, count: int) -> str:
    """Run against a node of its own and return the counts as text."""
    with IdentityProvider("read", policy=POLICY) as provider:
        async with OAuthNode(env={**SETTINGS, **provider.settings}) as node:
            return str(await HttpFuzz(node, await Shapes.of(node, provider), seed).run(count))


async def _body(reader: asyncio.StreamReader, length: int) -> bytes:
    try:
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        return error.partial  # an answer to HEAD has a length, but no body
