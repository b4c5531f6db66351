"""Each web framework, with its real server, admits and refuses the same requests."""

from __future__ import annotations

import base64
import hashlib
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.frameworks import ORIGIN, PAGE, SERVED, flask_app, werkzeug
from tests.support.token_mint import AUDIENCE
from tests.unit.client.conftest import config_for
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.wsgi import BearerAuthWsgiMiddleware

PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization",
}
CHALLENGE = 'Bearer realm="shop"'


@dataclass(frozen=True)
class Case:
    """A request and its response."""

    name: str
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    path: str = "/orders"
    method: str = "GET"
    body: str | None = None
    challenge: str | None = None
    """A part of `WWW-Authenticate`; None: the response has none."""


def thumbprint(certificate: Certificate) -> tuple[str, str]:
    """Return `x5t#S256` and the value of `Client-Cert` (RFC 9440)."""
    pem = certificate.certificate.decode()
    der = ssl.PEM_cert_to_DER_cert(pem)
    digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    return digest, f":{base64.b64encode(der).decode()}:"


def cases(service: FakeTokenService) -> Iterator[Case]:
    now = time.time()

    def bearer(**claims: Any) -> dict[str, str]:
        token = service.mint.token(now, **{"sub": "alice", "scope": "orders:read", **claims})
        return {"Authorization": f"Bearer {token}"}

    yield Case("allowed", 200, bearer(), body="alice")
    yield Case("no token", 401, challenge=CHALLENGE)
    yield Case("other scheme", 401, {"Authorization": "Basic dTpw"}, challenge=CHALLENGE)
    expired = bearer(iat=int(now) - 60, nbf=int(now) - 60, exp=int(now) - 30)
    yield Case(
        "expired", 401, expired, challenge='error="invalid_token", error_description="the token has expired"'
    )
    yield Case("revoked", 401, bearer(sub="eve"), challenge='error_description="the token was revoked"')
    yield Case("wrong audience", 401, bearer(aud="other"), challenge="the token is for another audience")
    yield Case("scope missing", 403, bearer(scope="x"), challenge='scope="orders:read"')
    yield Case("role missing", 403, bearer(), "/reports", challenge='error="insufficient_scope"')
    yield Case("role", 200, bearer(roles=["clerk"]), "/reports", body="alice")
    yield Case(
        "acr too weak",
        401,
        bearer(auth_ctx={"acr": "urn:pwd"}),
        "/payments",
        challenge='acr_values="urn:mfa"',
    )
    yield Case("acr", 200, bearer(auth_ctx={"acr": "urn:mfa"}), "/payments", body="alice")
    yield Case("public", 200, path="/healthz", body="public")
    yield Case("public with a token", 200, {"Authorization": "Bearer x"}, "/healthz", body="public")
    yield Case("preflight", 200, PREFLIGHT, method="OPTIONS")

    key = ProofMaker()
    token = bearer(cnf={"jkt": key.jkt})["Authorization"].removeprefix("Bearer ")

    def proof(maker: ProofMaker = key, **changes: Any) -> dict[str, str]:
        made = maker.proof(token=token, **{"uri": f"{ORIGIN}/orders", "now": time.time(), **changes})
        return {"Authorization": f"DPoP {token}", "DPoP": made}

    once = proof()
    yield Case("DPoP", 200, once, body="alice")
    yield Case("DPoP replayed", 401, once, challenge='DPoP realm="shop", error="invalid_dpop_proof"')
    yield Case("DPoP again", 200, proof(), body="alice")
    absent = {"Authorization": f"DPoP {token}"}
    yield Case("DPoP absent", 401, absent, challenge='DPoP realm="shop", error="invalid_token"')
    yield Case("DPoP as bearer", 401, {"Authorization": f"Bearer {token}"}, challenge="the token is bound")
    yield Case(
        "DPoP for another host", 401, proof(uri="http://127.0.0.1/orders"), challenge="invalid_dpop_proof"
    )
    yield Case("DPoP of another key", 401, proof(ProofMaker()), challenge="another key")

    authority = Authority()
    mine, header = thumbprint(authority.caller(dns_name="client.test"))
    _, other = thumbprint(authority.caller(dns_name="client.test"))
    bound = bearer(cnf={"x5t#S256": mine})
    yield Case("certificate", 200, {**bound, "Client-Cert": header}, body="alice")
    yield Case("certificate absent", 401, bound, challenge="the token is bound to a client certificate")
    yield Case("other certificate", 401, {**bound, "Client-Cert": other}, challenge="another one")
    yield Case(
        "malformed certificate", 400, {**bound, "Client-Cert": "x"}, challenge='error="invalid_request"'
    )


def problem(case: Case, response: httpx.Response) -> str | None:
    challenge = ", ".join(response.headers.get_list("www-authenticate")) or None
    fits = (
        response.status_code == case.status
        and (case.body is None or response.text == case.body)
        and (challenge is None if case.challenge is None else case.challenge in (challenge or ""))
    )
    return None if fits else f"{case.name}: {response.status_code} {challenge} {response.text[:200]}"


@pytest.mark.parametrize("name", SERVED)
async def test_a_framework_admits_and_refuses(name: str) -> None:
    with FakeTokenService() as service:
        service.revoke(subject="eve")
        async with (
            SERVED[name](config_for(service, bound=60.0), True) as url,
            httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
        ):
            problems = []
            for case in cases(service):
                response = await client.request(case.method, case.path, headers=case.headers)
                problems.append(problem(case, response))
                if case.name == "preflight":
                    assert response.headers["access-control-allow-origin"] == PAGE
            assert [each for each in problems if each] == []

            token = service.mint.token(time.time(), sub="mallory", scope="orders:read")
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/orders", headers=headers)).status_code == 200
            service.revoke(subject="mallory")

            async def is_refused() -> bool:
                return (await client.get("/orders", headers=headers)).status_code == 401

            await eventually(is_refused)


@pytest.mark.parametrize("name", SERVED)
async def test_a_stale_validator_refuses_with_503_and_tells_nothing(name: str) -> None:
    with FakeTokenService() as service:
        service.refuse_streams = service.refuse_unary = True
        async with (
            SERVED[name](config_for(service), False) as url,
            httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client,
        ):
            headers = {"Authorization": f"Bearer {service.mint.token(time.time(), scope='orders:read')}"}
            refused = await client.get("/orders", headers=headers)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert "www-authenticate" not in refused.headers
            text = refused.json()["detail"] if name == "fastapi" else refused.text
            assert text == "temporarily unavailable; retry later"
            assert (await client.get("/healthz")).text == "public"


def test_a_certificate_of_the_connection_is_proof(tmp_path: Path) -> None:
    """Mutual TLS that ends in the server of werkzeug (RFC 8705, section 3)."""
    authority = Authority()
    server, mine, other = authority.server(), authority.caller(dns_name="a"), authority.caller(dns_name="a")
    for name, certificate in {"server": server, "mine": mine, "other": other}.items():
        (tmp_path / name).write_bytes(certificate.certificate + certificate.key)
    (tmp_path / "roots").write_bytes(authority.certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "roots"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(tmp_path / "server")
    app = flask_app()
    with FakeTokenService() as service, SyncTokenValidator(config_for(service, bound=60.0)) as validator:
        assert validator.wait_ready(60)
        with werkzeug(BearerAuthWsgiMiddleware(app, validator), context) as url:
            token = service.mint.token(time.time(), aud=AUDIENCE, cnf={"x5t#S256": thumbprint(mine)[0]})
            presented: list[tuple[str | None, int]] = [("mine", 200), ("other", 401), (None, 401)]
            for client_name, status in presented:
                trust = ssl.create_default_context(cafile=str(tmp_path / "roots"))
                if client_name is not None:
                    trust.load_cert_chain(tmp_path / client_name)
                with httpx.Client(verify=trust, timeout=60, trust_env=False) as client:
                    response = client.get(f"{url}/orders", headers={"Authorization": f"Bearer {token}"})
                    assert (client_name, response.status_code) == (client_name, status)
