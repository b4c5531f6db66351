"""The token endpoint and introspection over HTTP/1.1, each against a no-op starlette app and oidc-provider on Redis."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import grpc
import httpx

from tests.benchmarks.duel import Effort, Side, duel
from tests.benchmarks.foreign import OidcProvider
from tests.benchmarks.load import Job, Load, write_messages
from tests.benchmarks.noop_http import NoopHttp
from tests.benchmarks.rpcs import CHAINS, Target, claims, target
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases
from tests.support.redis import RedisServer, external_redis
from token_service.v1 import client_service_pb2, client_service_pb2_grpc, token_service_pb2 as pb

_API = "https://api.example"
_CLIENT = "web"
_CONNECTIONS = 32
"""Keep-alive connections with one request at a time each."""


@dataclass(frozen=True)
class Endpoint:
    """An endpoint of a server, as a client sees it."""

    address: str
    pid: int
    path: str
    secret: str

    def load(self, file: Path, forms: Sequence[Mapping[str, str]], replies: str = "drop") -> Load:
        """Return a load generator that sends these forms in turn."""
        write_messages(file, [urlencode(form).encode() for form in forms])
        fields = "".join(f"{name}: {value}\r\n" for name, value in self._fields().items())
        return Load(
            Job(
                self.address,
                self.path,
                str(file),
                connections=_CONNECTIONS,
                replies=replies,
                header=f"POST {self.path} HTTP/1.1\r\n{fields}",
            )
        )

    def post(self, form: Mapping[str, str]) -> bytes:
        """Send one form and return the body of the response."""
        url = f"http://{self.address}{self.path}"
        with httpx.Client(trust_env=False, timeout=60) as http:
            return http.post(url, data=dict(form), headers=self._fields()).raise_for_status().content

    def _fields(self) -> dict[str, str]:
        pair = base64.b64encode(f"{_CLIENT}:{self.secret}".encode()).decode()
        return {
            "Host": self.address,
            "Accept": "application/json",
            "Authorization": f"Basic {pair}",
            "Content-Type": "application/x-www-form-urlencoded",
        }


@dataclass(frozen=True)
class Arena:
    """The service on PostgreSQL, and oidc-provider on Redis."""

    ours: Target
    secret: str
    provider: OidcProvider

    def compare(
        self,
        what: str,
        path: str,
        forms: Sequence[Mapping[str, str]],
        theirs: tuple[str, Sequence[Mapping[str, str]]],
        effort: Effort,
        *,
        goal: float,
        reply: bytes,
        replies: str = "drop",
    ) -> Iterator[Row]:
        """Measure an endpoint against a no-op app with a response of the same size, and against the provider.

        `theirs`: the path and the forms of the provider.
        """
        ours = Endpoint(self.ours.service.http_address, self.ours.service.pid, path, self.secret)
        directory = self.ours.directory
        with ExitStack() as stack:
            noop = stack.enter_context(NoopHttp(path, reply))
            still = Endpoint(noop.address, noop.pid, path, self.secret)
            other = Endpoint(self.provider.address, self.provider.pid, theirs[0], "secret")
            load, idle, foreign = (
                stack.enter_context(made)
                for made in (
                    ours.load(directory / "ours", forms, replies),
                    still.load(directory / "noop", forms),
                    other.load(directory / "provider", theirs[1], replies),
                )
            )
            for reference, name, at_least in (
                (Side(idle, noop.pid), "no-op", goal),
                (Side(foreign, self.provider.pid), "oidc-provider", None),
            ):
                outcome = duel(Side(load, ours.pid), reference, rounds=effort.rounds, seconds=effort.seconds)
                rate, reference_rate = outcome.rate_cells
                yield Row(
                    what if at_least is not None else f"{what}, by another server",
                    rate,
                    f"{name} {reference_rate}",
                    outcome.rate,
                    at_least=at_least,
                    note=outcome.note,
                )


@contextmanager
def _arena(postgres: PostgresDatabases) -> Iterator[Arena]:
    env = {
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_DATABASE_URL": postgres.create_database(),
    }
    with ExitStack() as stack:
        redis = external_redis() or stack.enter_context(RedisServer()).url
        ours = stack.enter_context(target(env))
        provider = stack.enter_context(OidcProvider(redis, CHAINS))
        yield Arena(ours, _register(ours), provider)


def _register(ours: Target) -> str:
    """Register the client and return its secret."""
    client = client_service_pb2.Client(
        client_id=_CLIENT,
        token_endpoint_auth_method="TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC",
        grant_types=["client_credentials", "refresh_token"],
        scopes=["read", "write", "orders:read", "orders:write"],
        audiences=[_API],
        rights=[client_service_pb2.Right(permission="validate")],
    )
    request = client_service_pb2.CreateClientRequest(client=client)
    with grpc.insecure_channel(ours.service.grpc_address) as channel:
        stub = client_service_pb2_grpc.ClientServiceStub(channel)
        return stub.CreateClient(request, timeout=30).client_secret


def _credentials() -> dict[str, str]:
    return {"grant_type": "client_credentials", "scope": "read write", "resource": _API}


def client_credentials(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure an access token for the client itself."""
    with _arena(postgres) as arena:
        reply = Endpoint(arena.ours.service.http_address, 0, "/token", arena.secret).post(_credentials())
        yield from arena.compare(
            "POST /token client_credentials, ES256",
            "/token",
            [_credentials()],
            ("/token", [_credentials()]),
            effort,
            goal=0.40,
            reply=reply,
        )


def refresh_token(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure a rotation in the database."""
    with _arena(postgres) as arena:
        sessions = arena.ours.many("IssueToken", pb.IssueTokenRequest(**claims()).SerializeToString(), CHAINS)
        tokens = [pb.IssueTokenResponse.FromString(session).refresh_token for session in sessions]
        endpoint = Endpoint(arena.ours.service.http_address, 0, "/token", arena.secret)
        yield from arena.compare(
            "POST /token refresh_token, ES256, PostgreSQL",
            "/token",
            [_refresh(token) for token in tokens[:-1]],
            ("/token", [_refresh(token) for token in arena.provider.tokens["refresh_tokens"]]),
            effort,
            goal=0.30,
            reply=endpoint.post(_refresh(tokens[-1])),
            replies="refresh",
        )


def introspect(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure the introspection of an access token."""
    with _arena(postgres) as arena:
        address = arena.ours.service.http_address
        issued = json.loads(Endpoint(address, 0, "/token", arena.secret).post(_credentials()))
        form = {"token": issued["access_token"]}
        reply = Endpoint(address, 0, "/introspect", arena.secret).post(form)
        assert json.loads(reply)["active"]
        yield from arena.compare(
            "POST /introspect",
            "/introspect",
            [form],
            ("/token/introspection", [{"token": arena.provider.tokens["access_token"]}]),
            effort,
            goal=0.70,
            reply=reply,
        )


def _refresh(token: str) -> dict[str, str]:
    return {"grant_type": "refresh_token", "refresh_token": token}
