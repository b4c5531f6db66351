"""RFC 9700, OAuth 2.0 Security Best Current Practice: what it demands of the flows without a browser.

Each test names the section that it proves. With the browser flows come: 2.1, 4.1 and 4.7 (redirect URIs and state of the
authorization request), 2.1.2 (no implicit grant), 4.2 and 4.3.1 (credentials in Referer headers and browser histories), 4.4 (mix-up,
`iss` in the response), 4.16 and 4.17 (clickjacking, messages between windows). Sender-constrained tokens (2.2.1, 4.10.1) come with
the proofs of possession. TLS (2.6) is in `tests/unit/web/test_tls.py` and `tests/unit/web/test_peer.py`.
"""

from __future__ import annotations

import time
from typing import Any

import httpx
import jwt
import pytest

from tests.integration.calls import refused
from tests.integration.oauth.node import (
    API,
    CLIENT_CREDENTIALS,
    REFRESH_TOKEN,
    Registered,
)
from tests.integration.oauth.site import (
    IDLE,
    ORIGIN,
    OTHER_API,
    VERIFIER,
    Site,
    claims_of,
    error_of,
)
from tests.support.deadline import eventually

# --- Codes: 2.1.1, 4.5 and 4.8 ------------------------------------------------------------------------------------------


async def test_4_5_stolen_code_is_worthless_without_the_verifier_and_the_client(site: Site) -> None:
    code = await site.code()
    wrong = {**site.page.post, "code_verifier": "w" * 43}
    others = {**site.other_page.post, "code_verifier": VERIFIER}
    elsewhere = {**site.page.post, "code_verifier": VERIFIER, "redirect_uri": "https://attacker.example/cb"}
    for parameters in (wrong, others, elsewhere):
        assert error_of(await site.exchange(code, **parameters)) == "invalid_grant"
    own = await site.exchange(code, **site.page.post, code_verifier=VERIFIER)
    assert claims_of(own)["sub"] == "alice"


async def test_4_5_code_that_is_used_twice_revokes_its_tokens(site: Site) -> None:
    proof = {**site.page.post, "code_verifier": VERIFIER}
    code = await site.code()
    answer = await site.exchange(code, **proof)
    assert error_of(await site.exchange(code, **proof)) == "invalid_grant"
    assert await site.api.why(answer.json()["access_token"], audience=API) == "REVOKED"
    assert error_of(await site.refresh(answer.json()["refresh_token"])) == "invalid_grant"


async def test_4_8_code_can_not_be_had_or_used_without_pkce(site: Site) -> None:
    failure = await refused(site.code(code_challenge=""))
    assert "code_challenge" in failure.violations
    assert error_of(await site.exchange(await site.code(), **site.page.post)) == "invalid_request"


# --- Refresh tokens: 2.2.2 and 4.14.2 -----------------------------------------------------------------------------------


async def test_4_14_2_each_refresh_of_a_public_client_gives_another_refresh_token(site: Site) -> None:
    first = await site.logged_in()
    second = (await site.refresh(first)).json()["refresh_token"]
    third = (await site.refresh(second)).json()["refresh_token"]
    assert len({first, second, third}) == 3


async def test_4_14_2_reuse_of_a_refresh_token_ends_the_whole_session(site: Site) -> None:
    first = await site.logged_in()
    answer = (await site.refresh(first)).json()
    reused = await site.refresh(first)
    assert (error_of(reused), reused.json()["reason"]) == ("invalid_grant", "REFRESH_TOKEN_REUSED")
    assert error_of(await site.refresh(answer["refresh_token"])) == "invalid_grant"
    assert await site.api.why(answer["access_token"], audience=API) == "REVOKED"


async def test_4_14_2_refresh_token_is_bound_to_its_client(site: Site) -> None:
    token = await site.logged_in()
    for client in (site.other_page, site.service):
        assert error_of(await site.refresh(token, client)) == "invalid_grant"
    assert (await site.refresh(token)).status_code == 200


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"scope": "read write admin"}, "invalid_scope"),
        ({"resource": "https://third.example"}, "invalid_target"),
    ],
)
async def test_4_14_2_refresh_token_is_bound_to_the_granted_scopes_and_resources(
    site: Site, more: dict[str, Any], error: str
) -> None:
    token = await site.logged_in()
    assert error_of(await site.refresh(token, **more)) == error
    narrower = claims_of(await site.refresh(token, scope="read", resource=API))
    assert (narrower["scope"], narrower["aud"]) == ("read", API)


async def test_4_14_2_refresh_token_expires_if_it_is_not_used(site: Site) -> None:
    answer = (await site.refresh(await site.logged_in())).json()
    assert IDLE - 60 < answer["refresh_token_timeout"] <= IDLE
    assert answer["authorization_expires_in"] > IDLE


async def test_4_14_2_security_event_revokes_refresh_and_access_tokens(site: Site) -> None:
    answer = (await site.refresh(await site.logged_in("carol"))).json()
    await site.api.revoke(subject="carol", comment="password changed")
    again = await site.refresh(answer["refresh_token"])
    assert (error_of(again), again.json()["reason"]) == ("invalid_grant", "SESSION_REVOKED")
    assert await site.api.why(answer["access_token"], audience=API) == "REVOKED"


async def test_2_2_2_client_credentials_give_no_refresh_token(site: Site) -> None:
    answer = await site.token({"grant_type": CLIENT_CREDENTIALS, "resource": API}, site.service.basic)
    assert answer.status_code == 200
    assert not {"refresh_token", "id_token"} & answer.json().keys()


# --- Privileges of access tokens: 2.3 and 4.10.2 ------------------------------------------------------------------------


async def test_2_3_access_token_is_for_the_requested_resource_only(site: Site) -> None:
    for resource in (API, OTHER_API):
        answer = await site.token(
            {"grant_type": CLIENT_CREDENTIALS, "resource": resource}, site.service.basic
        )
        assert claims_of(answer)["aud"] == resource
        other = OTHER_API if resource == API else API
        assert await site.api.why(answer.json()["access_token"], audience=other) == "WRONG_AUDIENCE"


async def test_2_3_client_of_several_resources_must_name_one(site: Site) -> None:
    answer = await site.token({"grant_type": CLIENT_CREDENTIALS}, site.service.basic)
    assert error_of(answer) == "invalid_target"


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"scope": "read admin", "resource": API}, "invalid_scope"),
        ({"resource": "https://third.example"}, "invalid_target"),
        ({"resource": [API, "https://third.example"]}, "invalid_target"),
    ],
)
async def test_2_3_client_gets_nothing_beyond_its_registration(
    site: Site, more: dict[str, Any], error: str
) -> None:
    answer = await site.token({"grant_type": CLIENT_CREDENTIALS, **more}, site.service.basic)
    assert error_of(answer) == error


async def test_2_3_access_token_has_the_requested_scopes_only(site: Site) -> None:
    answer = await site.token(
        {"grant_type": CLIENT_CREDENTIALS, "scope": "read", "resource": API}, site.service.basic
    )
    assert claims_of(answer)["scope"] == "read"
    assert answer.json()["scope"] == "read"


# --- 2.4: no password grant; 2.1.2: no token from a front channel -------------------------------------------------------


@pytest.mark.parametrize("grant_type", ["password", "implicit", "CLIENT_CREDENTIALS", "client_credentials "])
async def test_2_4_password_grant_and_other_names_are_unsupported(site: Site, grant_type: str) -> None:
    request = {"grant_type": grant_type, "username": "alice", "password": "secret"}
    assert error_of(await site.token(request, site.service.basic)) == "unsupported_grant_type"


async def test_2_4_metadata_offers_no_password_and_no_implicit_grant(site: Site) -> None:
    metadata = (await site.http.get("/.well-known/oauth-authorization-server")).json()
    assert not {"password", "implicit"} & {*metadata["grant_types_supported"]}
    assert not [each for each in metadata["response_types_supported"] if "token" in each.split()]


# --- 2.5: client authentication ------------------------------------------------------------------------------------------


async def test_2_5_confidential_client_must_authenticate_itself(site: Site) -> None:
    wrong = Registered("service", "tscs_" + "A" * 49)
    unknown = Registered("no-such-client", "tscs_" + "A" * 49)
    request = {"grant_type": CLIENT_CREDENTIALS, "resource": API}
    answers = [
        await site.token(request, wrong.basic),
        await site.token({**request, **wrong.post}),
        await site.token({**request, "client_id": "service"}),
        await site.token(request, unknown.basic),
    ]
    for answer in answers:
        assert error_of(answer, 401) == "invalid_client"
        assert answer.headers["www-authenticate"].startswith("Basic ")
    assert len({answer.text for answer in answers}) == 1, "an answer tells which clients exist"
    assert error_of(await site.token(request), 401) == "invalid_client"


async def test_2_5_public_client_gets_no_token_for_itself(site: Site) -> None:
    answer = await site.token({"grant_type": CLIENT_CREDENTIALS, **site.page.post})
    assert error_of(answer) == "unauthorized_client"


async def test_2_5_signed_assertion_serves_once(site: Site) -> None:
    request = {"grant_type": CLIENT_CREDENTIALS, **site.signing.assertion(site.node.issuer)}
    assert claims_of(await site.token(request))["sub"] == "signing"
    assert error_of(await site.token(request), 401) == "invalid_client"


@pytest.mark.parametrize(
    "audience", ["the token endpoint", "the issuer in a list", "another server", "the issuer with a slash"]
)
async def test_2_5_assertion_names_the_issuer_alone(site: Site, audience: str) -> None:
    issuer = site.node.issuer
    audiences: dict[str, object] = {
        "the token endpoint": f"{issuer}/token",
        "the issuer in a list": [issuer],
        "another server": "https://other-server.example",
        "the issuer with a slash": f"{issuer}/",
    }
    request = {"grant_type": CLIENT_CREDENTIALS, **site.signing.assertion(audiences[audience])}
    assert error_of(await site.token(request), 401) == "invalid_client"


async def test_2_5_request_has_one_client_authentication(site: Site) -> None:
    request = {"grant_type": CLIENT_CREDENTIALS, "resource": API}
    assertion = site.signing.assertion(site.node.issuer)
    for parameters in (assertion, site.service.post, {**assertion, **site.service.post}):
        answer = await site.token({**request, **parameters}, site.service.basic)
        assert error_of(answer, 401) == "invalid_client"
    both = await site.token({**request, **assertion, **site.service.post})
    assert error_of(both, 401) == "invalid_client"


# --- 2.6: metadata ---------------------------------------------------------------------------------------------------------


async def test_2_6_metadata_leads_to_the_keys_and_the_endpoint(site: Site) -> None:
    documents = [
        (await site.http.get(f"/.well-known/{name}")).json()
        for name in ("openid-configuration", "oauth-authorization-server")
    ]
    assert documents[0] == documents[1]
    metadata = documents[0]
    assert metadata["issuer"] == site.node.issuer
    for name, value in metadata.items():
        if name.endswith("_endpoint"):
            answer = await site.http.post(value)
            assert answer.status_code in {400, 401}, f"{name}: {answer.status_code}"
    assert None not in metadata.values()
    token = await site.token({"grant_type": CLIENT_CREDENTIALS, "resource": API}, site.service.basic)
    access_token = token.json()["access_token"]
    keys = jwt.PyJWKSet.from_dict((await site.http.get(metadata["jwks_uri"])).json())
    key = keys[jwt.get_unverified_header(access_token)["kid"]]
    jwt.decode(access_token, key, ["ES256"], audience=API, issuer=metadata["issuer"])


async def test_2_6_page_of_another_origin_reads_no_response(site: Site) -> None:
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://attacker.example", None), ("null", None)):
        headers = {"Origin": origin}
        preflight = {**headers, "Access-Control-Request-Method": "POST"}
        asked = await site.http.options("/token", headers=preflight)
        assert asked.headers.get("access-control-allow-origin") == allowed
        answer = await site.token(
            {"grant_type": REFRESH_TOKEN, "refresh_token": "x", **site.page.post}, headers
        )
        assert error_of(answer) == "invalid_grant"
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers


async def test_4_13_headers_of_a_proxy_count_from_a_stated_proxy_only(site: Site) -> None:
    forged = {
        "X-Forwarded-For": "192.0.2.7",
        "Forwarded": "for=192.0.2.7;proto=https",
        "X-Forwarded-Proto": "https",
        "Client-Cert": ":AAAA:",
        "X-Forwarded-Client-Cert": "Hash=00",
    }
    answer = await site.token(
        {"grant_type": CLIENT_CREDENTIALS, "resource": API}, {**site.service.basic, **forged}
    )
    token_id = claims_of(answer)["jti"]
    await eventually(lambda: token_id in site.node.log_text())
    (line,) = (line for line in site.node.log_text().splitlines() if token_id in line)
    assert "ip_address=127.0.0.1" in line
    assert "192.0.2.7" not in line


# --- 4.3.2, 4.9, 4.11, 4.12, 4.15 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["client_secret", "refresh_token", "access_token", "grant_type"])
async def test_4_3_2_parameters_in_the_url_are_refused(site: Site, name: str) -> None:
    answer = await site.http.post(
        f"/token?{name}=x", data={"grant_type": CLIENT_CREDENTIALS}, headers=site.service.basic
    )
    assert error_of(answer) == "invalid_request"


async def test_4_9_token_for_one_resource_is_no_credential_at_the_service(site: Site) -> None:
    answer = await site.token({"grant_type": CLIENT_CREDENTIALS, "resource": API}, site.service.basic)
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    for path in ("/token", "/introspect"):
        parameters = {
            "grant_type": CLIENT_CREDENTIALS,
            "resource": API,
            "token": answer.json()["access_token"],
        }
        again = await site.http.post(path, data=parameters, headers=bearer)
        assert error_of(again, 401) == "invalid_token"
        assert again.headers["www-authenticate"].startswith("Bearer ")


async def test_4_9_database_and_log_hold_no_token_and_no_secret(site: Site) -> None:
    first = await site.logged_in()
    answer = (await site.refresh(first)).json()
    stored = b"".join(file.read_bytes() for file in site.node.data_dir.glob("*.db*"))
    log = site.node.log_text().encode()
    for secret in (first, answer["refresh_token"], answer["access_token"], site.service.secret):
        assert secret[8:40].encode() not in stored
        assert secret[8:40].encode() not in log


@pytest.mark.parametrize("path", ["/token/", "/.well-known/jwks.json/", "/healthz/", "//token"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_4_12_no_request_is_redirected(site: Site, method: str, path: str) -> None:
    headers = {**site.service.basic, "Host": "attacker.example"}
    url = httpx.URL(site.node.http_url).copy_with(raw_path=path.encode())
    answer = await site.http.request(
        method, url, data={"grant_type": CLIENT_CREDENTIALS} if method == "POST" else None, headers=headers
    )
    assert answer.status_code == 404
    assert "location" not in answer.headers


async def test_4_15_client_cannot_choose_its_subject(site: Site) -> None:
    request = {"grant_type": CLIENT_CREDENTIALS, "resource": API}
    for more in (
        {"sub": "alice"},
        {"subject": "alice"},
        {"username": "alice"},
        {"requested_subject": "alice"},
    ):
        claims = claims_of(await site.token({**request, **more}, site.service.basic))
        assert (claims["sub"], claims["client_id"]) == ("service", "service")
        assert "sid" not in claims
    other = await site.token({**request, "client_id": "page"}, site.service.basic)
    assert error_of(other, 401) == "invalid_client"


async def test_4_15_tokens_of_users_and_of_clients_can_be_told_apart(site: Site) -> None:
    claims = claims_of(await site.refresh(await site.logged_in()))
    assert (claims["sub"], claims["client_id"]) == ("alice", "page")
    assert claims["exp"] - claims["iat"] <= 3600
    assert claims["iat"] <= time.time() + 1
