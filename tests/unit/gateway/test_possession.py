from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.fake_token_service import FakeTokenService
from tests.unit.gateway.conftest import MakeGateway, allowed, ask_envoy, denied
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.client._internal.challenges import parse_challenges
from token_service.gateway.loading import Parts

URI = "https://api.example/orders"
DER = b"\x30\x03\x02\x01\x05"
PEM = quote(f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(DER).decode()}\n-----END CERTIFICATE-----\n")
THUMBPRINT = base64.urlsafe_b64encode(hashlib.sha256(DER).digest()).rstrip(b"=").decode()


class Sender:
    """A client with a key and a token bound to it."""

    def __init__(self, service: FakeTokenService) -> None:
        self.proofs = ProofMaker()
        self.token = service.mint.token(time.time(), cnf={"jkt": self.proofs.jkt})

    def proof(self, **changes: Any) -> str:
        return self.proofs.proof(**{"token": self.token, "uri": URI, "now": time.time(), **changes})


@pytest.fixture
def sender(service: FakeTokenService) -> Sender:
    return Sender(service)


async def error_of(parts: Parts, *arguments: Any, **options: Any) -> tuple[int, str | None]:
    """Return status and error of a refused check."""
    status, headers = denied(await ask_envoy(parts, *arguments, **options))
    return status, parse_challenges(headers["www-authenticate"])[-1].parameters.get("error")


@pytest.fixture
async def parts(gateway: MakeGateway) -> AsyncIterator[Parts]:
    async with gateway('[proofs]\norigin = "https://api.example"') as made:
        yield made


async def test_dpop_bound_token_passes_with_its_proof(parts: Parts, sender: Sender) -> None:
    response = await ask_envoy(parts, f"DPoP {sender.token}", headers={"dpop": sender.proof()})
    assert allowed(response)[0]["x-token-subject"] == "user-1"
    assert not response.ok_response.response_headers_to_add


async def test_dpop_bound_token_is_refused_without_its_proof(parts: Parts, sender: Sender) -> None:
    dpop, used = f"DPoP {sender.token}", sender.proof()
    allowed(await ask_envoy(parts, dpop, headers={"dpop": used}))
    other = ProofMaker()
    for authorization, headers, error in [
        (dpop, {}, "invalid_token"),
        (f"Bearer {sender.token}", {}, "invalid_token"),
        (f"Bearer {sender.token}", {"dpop": sender.proof()}, "invalid_token"),
        (dpop, {"dpop": used}, "invalid_dpop_proof"),
        (dpop, {"dpop": f"{sender.proof()},{sender.proof()}"}, "invalid_dpop_proof"),
        (dpop, {"dpop": sender.proof(method="POST")}, "invalid_dpop_proof"),
        (dpop, {"dpop": sender.proof(uri="https://api.example/other")}, "invalid_dpop_proof"),
        (dpop, {"dpop": sender.proof(uri="https://evil.example/orders")}, "invalid_dpop_proof"),
        (dpop, {"dpop": sender.proof(now=time.time() - 3600)}, "invalid_dpop_proof"),
        (dpop, {"dpop": other.proof(token=sender.token, uri=URI, now=time.time())}, "invalid_token"),
    ]:
        before = parts.validator.counters.rejected.total()
        assert await error_of(parts, authorization, headers=headers) == (401, error)
        assert parts.validator.counters.rejected.total() == before + 1


async def test_unbound_token_with_the_scheme_dpop_is_refused(parts: Parts, service: FakeTokenService) -> None:
    token = service.mint.token(time.time())
    assert await error_of(parts, f"DPoP {token}") == (401, "invalid_token")
    allowed(await ask_envoy(parts, f"Bearer {token}"))


async def test_host_of_the_request_counts_only_if_the_proxy_is_trusted(
    gateway: MakeGateway, sender: Sender
) -> None:
    dpop = f"DPoP {sender.token}"
    async with gateway("[proofs]\ntrust_host = true") as parts:
        allowed(await ask_envoy(parts, dpop, headers={"dpop": sender.proof()}))
    async with gateway('[proofs]\norigin = "https://public.example"') as parts:
        proof = sender.proof(uri="https://public.example/orders")
        allowed(await ask_envoy(parts, dpop, headers={"dpop": proof}))
        assert await error_of(parts, dpop, headers={"dpop": sender.proof()}) == (401, "invalid_dpop_proof")
    async with gateway() as parts:
        status, headers = denied(await ask_envoy(parts, dpop, headers={"dpop": sender.proof()}))
        assert status == 401
        assert [each.scheme for each in parse_challenges(headers["www-authenticate"])] == ["bearer"]


async def test_nonces_of_a_key_file(gateway: MakeGateway, sender: Sender, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ab" * 32 + "\n" + "cd" * 32 + "\n")
    async with gateway(f'[proofs]\nnonce_keys = "{keys}"\norigin = "https://api.example"') as parts:
        dpop = f"DPoP {sender.token}"
        status, headers = denied(await ask_envoy(parts, dpop, headers={"dpop": sender.proof()}))
        assert (status, len(headers["dpop-nonce"])) == (401, 24)
        (challenge,) = parse_challenges(headers["www-authenticate"])
        assert (challenge.scheme, challenge.parameters["error"]) == ("dpop", "use_dpop_nonce")

        proof = sender.proof(nonce=headers["dpop-nonce"])
        response = await ask_envoy(parts, dpop, headers={"dpop": proof})
        allowed(response)
        (added,) = response.ok_response.response_headers_to_add
        assert added.header.key == "dpop-nonce"
        nonces = parts.checker._possession.checker.nonces
        assert nonces is not None
        assert (added.header.value, added.append_action) == (nonces.current(time.time()), 2)


async def test_certificate_bound_token(parts: Parts, service: FakeTokenService) -> None:
    token = f"Bearer {service.mint.token(time.time(), cnf={'x5t#S256': THUMBPRINT})}"
    allowed(await ask_envoy(parts, token, certificate=PEM))
    other = PEM.replace("MAM", "MAQ")
    assert other != PEM
    for options in (
        {},
        {"certificate": other},
        {"headers": {"x-forwarded-client-cert": f"Hash={hashlib.sha256(DER).hexdigest()}"}},
        {"headers": {"client-cert": f":{base64.b64encode(DER).decode()}:"}},
    ):
        assert (await error_of(parts, token, **options))[0] == 401


async def test_certificate_header_counts_only_if_configured(
    gateway: MakeGateway, service: FakeTokenService
) -> None:
    token = f"Bearer {service.mint.token(time.time(), cnf={'x5t#S256': THUMBPRINT})}"
    header = {"x-forwarded-client-cert": f"Hash={hashlib.sha256(DER).hexdigest()}"}
    async with gateway('[proofs]\nclient_certificate = "xfcc"') as parts:
        allowed(await ask_envoy(parts, token, headers=header))
        assert (await error_of(parts, token, certificate=PEM))[0] == 401


async def test_token_bound_in_an_unknown_way_is_refused(parts: Parts, service: FakeTokenService) -> None:
    token = service.mint.token(time.time(), cnf={"kid": "a"})
    assert await error_of(parts, f"Bearer {token}", certificate=PEM) == (401, "invalid_token")
