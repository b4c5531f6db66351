"""The vectors of `tests/vectors/validation`, which validators in any language run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format

from tests.support.manual_clock import ManualClock
from tests.support.validation_vectors.files import DIRECTORY, files
from token_service.client._internal.following.state import Probe, StreamProtocolError
from token_service.client._internal.local import IssuerState, Known
from token_service.client._internal.setup import Parts
from token_service.client.config import Freshness, ServiceIssuer, ValidatorConfig
from token_service.errors import InvalidTokenError
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.possession import PossessionChecker, Presented, Scheme
from token_service.v1.token_service_pb2 import StreamRevocationsResponse

TOKENS, SCENARIOS, PROOFS = (
    json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("tokens", "scenarios", "proofs")
)


class Bench:
    """A validator without I/O whose messages and time come from a vector."""

    def __init__(self, issuer: str, now: float, *, bound: float, leeway: float = 0, kinds: list[str]) -> None:
        self.clock = ManualClock(now, elapsed=1000.0)
        service = ServiceIssuer(
            issuer=issuer,
            target="127.0.0.1:1",
            freshness=Freshness(bound=bound),
            token_kinds=frozenset(TokenKind[kind] for kind in kinds),
        )
        self.parts = Parts(ValidatorConfig(issuers=[service], audience=None, leeway=leeway), self.clock)
        assert self.parts.follower_state is not None
        self.state = self.parts.follower_state
        self._start = now
        self._probes: dict[str, Probe] = {}

    def verdict(
        self, token: str, audience: str | None, required_scopes: list[str]
    ) -> tuple[str, VerifiedClaims | None]:
        try:
            result = self.parts.local.check(token, audience, required_scopes)
        except InvalidTokenError as error:
            return error.reason.value, None
        if isinstance(result, IssuerState):
            return ("UNKNOWN_KEY" if result.has_keys else "STALE"), None
        return ("STALE", None) if isinstance(result, Known) else ("ACTIVE", result)

    def begin(self, key_set: dict[str, Any]) -> None:
        """Receive the keys and an empty set of revocations, and prove its freshness."""
        self.receive({"reset": True, "key_set": key_set, "cursor": "log-1-of-vectors:0"})
        self.state.answer(self.state.begin_probe(), "log-1-of-vectors:0")

    def receive(self, message: dict[str, Any]) -> None:
        self.state.receive(json_format.ParseDict(message, StreamRevocationsResponse()))

    def step(self, step: dict[str, Any], tokens: dict[str, str], audience: str) -> None:
        self.clock.running = 1000.0 + step["at"]
        self.clock.wall = self._start + step.get("wall", step["at"])
        if step["do"] == "connect":
            assert self.state.connect() == step["expect_cursor"]
        elif step["do"] == "receive" and step.get("expect_error"):
            with pytest.raises(StreamProtocolError):
                self.receive(step["message"])
            self.state.distrust()
        elif step["do"] == "receive":
            self.receive(step["message"])
        elif step["do"] == "probe":
            probe = self._probes[step["probe"]] = self.state.begin_probe()
            assert ("" if probe.cursor is None else str(probe.cursor)) == step["expect_applied_cursor"]
        elif step["do"] == "answer":
            self.state.answer(self._probes[step["probe"]], step["head_cursor"])
        elif step["do"] == "sweep":
            self.state.sweep()
        else:
            assert step["do"] == "check"
            verdict, _ = self.verdict(
                tokens[step["token"]], step.get("audience", audience), step.get("required_scopes", [])
            )
            assert verdict == step["verdict"], f"the token {step['token']!r} at {step['at']}"


@pytest.mark.parametrize("name", files())
def test_files_are_what_the_generator_writes(name: str) -> None:
    found = (DIRECTORY / name).read_text(encoding="utf-8")
    assert found == files()[name], f"{name} is out of date; run scripts/gen-vectors"


@pytest.mark.parametrize("case", TOKENS["cases"], ids=lambda case: case["name"])
def test_tokens_get_their_verdict(case: dict[str, Any]) -> None:
    case = {**TOKENS["defaults"], **case}
    bench = Bench(TOKENS["issuer"], case["now"], bound=5, leeway=case["leeway"], kinds=case["token_types"])
    bench.begin(TOKENS["key_set"])
    verdict, claims = bench.verdict(case["token"], case["audience"], case["required_scopes"])
    assert verdict == case["verdict"]
    if claims is not None and "expect_claims" in case:
        assert case["expect_claims"] == {
            "token_type": claims.kind.name,
            "token_id": claims.token_id,
            "session_id": claims.session_id,
            "subject": claims.subject,
            "client_id": claims.client_id,
            "audience": list(claims.audience),
            "scopes": sorted(claims.scopes),
        }


@pytest.mark.parametrize("scenario", SCENARIOS["scenarios"], ids=lambda scenario: scenario["name"])
def test_scenarios_get_their_verdicts(scenario: dict[str, Any]) -> None:
    bench = Bench(SCENARIOS["issuer"], SCENARIOS["start"], bound=SCENARIOS["bound"], kinds=["ACCESS"])
    for step in scenario["steps"]:
        bench.step(step, SCENARIOS["tokens"], SCENARIOS["audience"])


@pytest.mark.parametrize("case", PROOFS["cases"], ids=lambda case: case["name"])
def test_proofs_get_their_verdicts(case: dict[str, Any]) -> None:
    start, token = PROOFS["start"], case["token"]
    bench = Bench(PROOFS["issuer"], start, bound=5, kinds=["ACCESS"])
    bench.begin(PROOFS["key_set"])
    verdict, claims = bench.verdict(token, PROOFS["audience"], [])
    assert verdict == "ACTIVE"
    assert claims is not None
    checker = PossessionChecker()
    for request in case["requests"]:
        presented = Presented(
            dpop_proof=request["dpop_proof"],
            method=request["method"],
            uri=request["uri"],
            certificate_thumbprint=request["certificate_thumbprint"],
        )
        verdict, now = "ACTIVE", start + request["at"]
        try:
            scheme = Scheme(request["scheme"])
            checker.check(claims.confirmation, token, presented, scheme=scheme, now=now, elapsed=now)
        except InvalidTokenError as error:
            verdict = error.reason.value
        assert verdict == request["verdict"], f"at {request['at']} s"
