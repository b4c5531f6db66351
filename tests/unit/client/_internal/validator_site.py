"""A validator without threads and connections, for tests that run its events in a chosen order."""

from __future__ import annotations

from tests.support.manual_clock import ManualClock
from tests.support.token_mint import AUDIENCE, Mint
from token_service.client._internal.setup import Parts
from token_service.client.config import Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.v1 import key_service_pb2
from token_service.v1.token_service_pb2 import Revocation, StreamRevocationsResponse

S = 5.0
ACCEPT_FOR = 60.0
MINT = Mint("RS256")
"""RSA, because it verifies fastest, and tests with it verify tens of thousands of times."""
KEY = key_service_pb2.JsonWebKey(**MINT.jwk)
TOKEN = MINT.token(ManualClock().wall, jti="token-1", sid="session-1")


class ValidatorSite:
    """A validator without threads. The test takes the place of the follower."""

    def __init__(self, *, when_stale: tuple[WhenStale, ...] = (WhenStale.REJECT,)) -> None:
        self.clock = ManualClock()
        freshness = Freshness(bound=S, when_stale=when_stale, accept_for=ACCEPT_FOR)
        issuer = ServiceIssuer(issuer=MINT.issuer, target="127.0.0.1:1", freshness=freshness)
        self.parts = Parts(ValidatorConfig(issuers=[issuer], audience=AUDIENCE), self.clock)
        assert self.parts.follower_state is not None
        self.follower_state = self.parts.follower_state
        self.sequence = 0
        self.follower_state.connect()
        self.follower_state.receive(
            StreamRevocationsResponse(reset=True, key_set=self.key_set(), cursor="epoch-one:0")
        )
        self.prove()
        self.token = TOKEN

    def key_set(self) -> key_service_pb2.KeySet:
        return key_service_pb2.KeySet(revision=1, issuer=MINT.issuer, keys=[KEY])

    def entry(self, target: str) -> Revocation:
        entry = Revocation(sequence=self.sequence)
        if target == "known token_id":
            entry.token_id = "token-1"
            entry.token_expire_time.seconds = int(self.clock.wall) + 900
        elif target == "everything":
            entry.everything = True
        else:
            values = {"session_id": "session-1", "subject": "user-1", "client_id": "web"}
            values |= {"key_id": MINT.jwk["kid"], "token_id": "token-1"}
            setattr(entry, target, values[target])
        entry.revoke_time.seconds = int(self.clock.wall)
        entry.expire_time.seconds = int(self.clock.wall) + 960
        return entry

    def revoke(self, target: str) -> None:
        """Receive an entry from the stream."""
        self.sequence += 1
        cursor = f"epoch-one:{self.sequence}"
        self.follower_state.receive(
            StreamRevocationsResponse(revocations=[self.entry(target)], cursor=cursor)
        )

    def revoke_elsewhere(self) -> None:
        """Receive an entry about another token from the stream."""
        self.sequence += 1
        entry = self.entry("token_id")
        entry.token_id = "another"
        cursor = f"epoch-one:{self.sequence}"
        self.follower_state.receive(StreamRevocationsResponse(revocations=[entry], cursor=cursor))

    def snapshot_with(self, target: str) -> None:
        """Receive a snapshot with an entry from the stream."""
        self.sequence += 1
        self.follower_state.connect()
        cursor = f"epoch-one:{self.sequence}"
        self.follower_state.receive(
            StreamRevocationsResponse(
                reset=True, revocations=[self.entry(target)], key_set=self.key_set(), cursor=cursor
            )
        )

    def prove(self) -> None:
        """Send a probe and receive its answer."""
        self.follower_state.answer(self.follower_state.begin_probe(), f"epoch-one:{self.sequence}")
