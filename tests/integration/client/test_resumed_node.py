"""A validator's node is stopped, a token is revoked at another node, and the first node is resumed in the middle of a
validation: the proof that arrives then does not prove an earlier verdict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually_sync
from tests.support.postgres import PostgresDatabases
from token_service.client.config import Backoff, Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.client.sync_validator import SyncTokenValidator
from token_service.clock import monotonic_clock
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.v1 import token_service_pb2 as pb
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

S = 1.0
_ISSUER = "https://tokens.test"
_TARGETS: dict[str, Callable[[pb.IssueTokenResponse], dict[str, Any]]] = {
    "token": lambda issued: {"token": issued.access_token},
    "token_id": lambda issued: {"token_id": issued.token_id},
    "session_id": lambda issued: {"session_id": issued.session_id},
    "subject": lambda _: {"subject": "alice"},
    "client_id": lambda _: {"client_id": "web"},
    "everything": lambda _: {"everything": True},
}


class InterruptingClock:
    """The clocks of this machine. Once armed, a later read of the time by this thread calls a function first."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = self._now
        self.elapsed = monotonic_clock()
        self._thread = threading.get_ident()
        self._interrupt: Callable[[], None] | None = None
        self._looks = 0

    def arm(self, interrupt: Callable[[], None], looks: int) -> None:
        """Call `interrupt` in the read after `looks` more reads."""
        self._interrupt, self._looks = interrupt, looks

    @property
    def is_armed(self) -> bool:
        return self._interrupt is not None

    def _now(self) -> float:
        interrupt = self._interrupt
        if interrupt is not None and threading.get_ident() == self._thread:
            if not self._looks:
                self._interrupt = None
                interrupt()
            self._looks -= 1
        return time.time()


@pytest.fixture(scope="module")
def pair(postgres_server: PostgresDatabases) -> Iterator[list[Node]]:
    url = postgres_server.create_database()
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": url, "TOKEN_SERVICE_ISSUER": _ISSUER}) as made:
        yield made
    postgres_server.drop_database(url)


def _revoke_while_paused(followed: Node, service: TokenServiceStub, request: pb.RevokeTokenRequest) -> None:
    """Stop a node and revoke at the other one. A node that stops amid a write keeps the database locked: try again."""

    def revoked() -> bool:
        followed.pause()
        try:
            service.RevokeToken(request)
        except grpc.RpcError as error:
            followed.resume()
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        return True

    eventually_sync(revoked)


def _verdict(validator: SyncTokenValidator, token: str) -> str:
    """Return a verdict; empty while the validator is stale, which one with so small an S is on a busy machine."""
    try:
        validator.validate(token)
    except InvalidTokenError as error:
        return error.reason
    except ReplicaStaleError:
        return ""
    return "accepted"


@pytest.mark.parametrize(("seen", "looks"), [(True, 0), (False, 1)], ids=["seen", "never seen"])
@pytest.mark.parametrize("target", _TARGETS)
def test_a_node_resumed_during_a_validation_does_not_prove_its_earlier_verdict(
    pair: list[Node], target: str, looks: int, *, seen: bool
) -> None:
    followed, other = pair
    clock = InterruptingClock()
    issuer = ServiceIssuer(
        issuer=_ISSUER,
        target=followed.grpc_address,
        freshness=Freshness(bound=S, probe_timeout=S, when_stale=(WhenStale.REJECT,)),
        reconnect=Backoff(initial=0.02, longest=0.2),
    )
    config = ValidatorConfig(issuers=[issuer], audience="api")
    with (
        grpc.insecure_channel(other.grpc_address) as channel,
        SyncTokenValidator(config, clock=clock) as validator,
    ):
        service = TokenServiceStub(channel)
        issued = service.IssueToken(pb.IssueTokenRequest(subject="alice", client_id="web", audience=["api"]))
        assert validator.wait_ready(120)
        if seen:
            eventually_sync(lambda: _verdict(validator, issued.access_token) == "accepted")
        try:
            _revoke_while_paused(followed, service, pb.RevokeTokenRequest(**_TARGETS[target](issued)))
            eventually_sync(lambda: not validator.is_fresh)

            def resume() -> None:
                followed.resume()
                eventually_sync(lambda: validator.is_fresh)

            clock.arm(resume, looks)
            # Stale is allowed: the earlier verdict without a proof.
            with pytest.raises((InvalidTokenError, ReplicaStaleError)):
                validator.validate(issued.access_token)
            assert not clock.is_armed
        finally:
            followed.resume()
        eventually_sync(lambda: _verdict(validator, issued.access_token) == InvalidReason.REVOKED)
