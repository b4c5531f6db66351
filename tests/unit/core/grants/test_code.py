"""Authorization codes: one session a code, whatever fails in between."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.unit.core.node import Intercepted, Node, raising
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN, AuthMethod, ClientMetadata
from token_service.core.grants.authorization import AuthorizationGrantCommand, is_registered_redirect
from token_service.core.grants.code import CodeGrant
from token_service.core.grants.codes import CODE_TTL
from token_service.core.grants.commands import GrantRequest
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.policies.policy import Policy
from token_service.core.policies.rights import May, Permission, Right
from token_service.core.sessions.session import SessionState
from token_service.core.sessions.store import SessionFilter
from token_service.errors import (
    ClientDisabledError,
    ClientNotFoundError,
    CustomClaimNotAllowedError,
    CustomClaimsTooLargeError,
    GrantInvalidError,
    GrantTypeNotAllowedError,
    InvalidReason,
    InvalidRequestError,
    PermissionDeniedError,
    PolicyViolationError,
    ReservedClaimError,
    ScopeExceededError,
    StoreUnavailableError,
)
from token_service.tokens import base64url
from token_service.tokens.claims import AuthContext, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget

VERIFIER = "v" * 43
CHALLENGE = base64url.encode(hashlib.sha256(VERIFIER.encode()).digest())
REDIRECT = "https://app.example/cb"
APP = ClientMetadata(
    token_endpoint_auth_method=AuthMethod.NONE,
    grant_types=(AUTHORIZATION_CODE, REFRESH_TOKEN),
    redirect_uris=(REDIRECT, "http://127.0.0.1/cb"),
    scopes=("openid", "orders:read", "orders:write"),
    audiences=("https://orders.example", "https://mail.example"),
)
LOGIN = Caller(
    "login",
    Rights(
        [
            Right(
                permission=Permission.ISSUE,
                clients=("app",),
                may=(May.OTHER_SUBJECTS, May.AUTH_CONTEXT, May.CUSTOM_CLAIMS),
            )
        ]
    ),
)
"""A login service that may issue for the client."""


class Scene:
    """A node with a registered client, and the login service of its users."""

    def __init__(self, node: Node[ManualClock]) -> None:
        self.node = node
        self.app = Caller(
            "app",
            Rights(
                [
                    Right(permission=Permission.REFRESH, clients=("app",)),
                    Right(permission=Permission.REVOKE, clients=("app",)),
                ]
            ),
            Proof.CLIENT_ID,
            client_id="app",
        )

    @classmethod
    async def make(cls, **options: Any) -> Scene:
        node = await Node(ManualClock(), max_staleness=1e12, **options).start()
        await node.core.client_administration.create(Caller.system(), "app", APP, 0.0)
        await node.core.clients.refresh()
        return cls(node)

    @property
    def codes(self) -> CodeGrant:
        return self.node.core.oauth.grants.code

    async def code(self, caller: Caller = LOGIN, **changes: Any) -> str:
        fields = {
            "client_id": "app",
            "redirect_uri": REDIRECT,
            "code_challenge": CHALLENGE,
            "subject": "alice",
            "audience": ("https://orders.example",),
            "scopes": ("openid", "orders:read"),
            **changes,
        }
        command = AuthorizationGrantCommand(**fields)
        return (
            await self.node.core.oauth.authorization_grants.create(caller, command, self.node.clock.now())
        )[0]

    async def exchange(self, code: str, caller: Caller | None = None, **changes: Any) -> IssuedTokens:
        request = changes.pop("request", GrantRequest())
        fields = {"redirect_uri": REDIRECT, "code_verifier": VERIFIER, **changes}
        return await self.codes.grant(
            caller or self.app, request, code=code, now=self.node.clock.now(), **fields
        )

    async def sessions(self) -> list[SessionState]:
        now = self.node.clock.now()
        page = await self.node.sessions.list(
            Caller.system(), SessionFilter.CLIENT, "app", live_at=None, page_size=100, page_token=""
        )
        return [details.session.state(now) for details in page.sessions]


@pytest.fixture
async def scene() -> Scene:
    return await Scene.make()


async def claims(scene: Scene, token: str) -> VerifiedClaims:
    answer = await scene.node.validate(token)
    assert isinstance(answer.claims, VerifiedClaims)
    return answer.claims


async def test_a_code_becomes_the_tokens_that_the_login_service_decided(scene: Scene) -> None:
    code = await scene.code(
        nonce="n-1", auth_context=AuthContext("urn:mfa", ("pwd", "otp"), 1700), custom_claims={"team": "blue"}
    )
    tokens = await scene.exchange(code)
    access, id_token = await claims(scene, tokens.access_token), await claims(scene, tokens.id_token)
    assert (access.subject, access.client_id, access.audience) == (
        "alice",
        "app",
        ("https://orders.example",),
    )
    assert access.scopes == {"openid", "orders:read"}
    assert access.auth_context == AuthContext("urn:mfa", ("pwd", "otp"), 1700)
    assert access.custom_claims == {"team": "blue"}
    assert id_token.payload["nonce"] == "n-1"
    assert id_token.session_id == access.session_id == tokens.session_id
    assert (await scene.node.refresh(tokens.refresh_token, "app")).session_id == tokens.session_id


async def test_identity_claims_are_kept_in_the_session_and_are_in_no_token(scene: Scene) -> None:
    scene.node.policy = Policy(allowed_custom_claims=("team",))  # is about claims of tokens
    tokens = await scene.exchange(await scene.code(identity_claims={"email": "a@example.org"}))
    refreshed = await scene.node.refresh(tokens.refresh_token, "app")
    session = await scene.node.session(tokens.session_id)
    assert (session.identity_claims, session.upstream) == ({"email": "a@example.org"}, "")
    for token in (tokens.access_token, tokens.id_token, refreshed.access_token):
        assert "email" not in (await claims(scene, token)).payload


async def test_without_openid_and_the_refresh_grant_only_an_access_token_with_a_session_is_issued(
    scene: Scene,
) -> None:
    await scene.node.core.client_administration.create(
        Caller.system(),
        "plain",
        ClientMetadata(grant_types=(AUTHORIZATION_CODE,), redirect_uris=(REDIRECT,), scopes=("a",)),
        0.0,
    )
    caller = replace(scene.app, name="plain", client_id="plain")
    code = await scene.code(Caller.system(), client_id="plain", scopes=("a",), audience=())
    tokens = await scene.exchange(code, caller)
    assert (tokens.refresh_token, tokens.id_token) == ("", "")
    await scene.node.revoke(target=RevocationTarget.SESSION, value=tokens.session_id)
    assert (await scene.node.validate(tokens.access_token)).reason is InvalidReason.REVOKED


async def test_a_replay_with_the_verifier_revokes_the_session(scene: Scene) -> None:
    code = await scene.code()
    tokens = await scene.exchange(code)
    with pytest.raises(GrantInvalidError, match="used before"):
        await scene.exchange(code)
    assert (await scene.node.validate(tokens.access_token)).reason is InvalidReason.REVOKED
    assert await scene.sessions() == [SessionState.REVOKED]
    assert scene.node.audit.named("revoked")[0]["reason"] == "COMPROMISED"


async def test_a_replay_without_the_verifier_revokes_nothing(scene: Scene) -> None:
    code = await scene.code()
    tokens = await scene.exchange(code)
    with pytest.raises(GrantInvalidError, match="code_verifier"):
        await scene.exchange(code, code_verifier="w" * 43)
    assert (await scene.node.validate(tokens.access_token)).reason is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"redirect_uri": "http://127.0.0.1/cb"}, "redirect_uri"),
        ({"code_verifier": "w" * 43}, "code_verifier"),
    ],
)
async def test_a_refused_exchange_leaves_the_code_usable(
    scene: Scene, changes: dict[str, Any], message: str
) -> None:
    code = await scene.code()
    with pytest.raises(GrantInvalidError, match=message):
        await scene.exchange(code, **changes)
    assert (await scene.exchange(code)).access_token


async def test_another_client_can_not_exchange_a_code(scene: Scene) -> None:
    await scene.node.core.client_administration.create(Caller.system(), "other", APP, 0.0)
    code = await scene.code()
    with pytest.raises(GrantInvalidError, match="another client"):
        await scene.exchange(code, replace(scene.app, name="other", client_id="other"))
    assert (await scene.exchange(code)).access_token


async def test_the_redirect_uri_may_be_left_out_of_the_exchange(scene: Scene) -> None:
    assert (await scene.exchange(await scene.code(), redirect_uri="")).access_token


@pytest.mark.parametrize("verifier", ["", "v" * 42, "v" * 129, "v" * 42 + "+", "é" * 43])
async def test_a_verifier_outside_of_rfc_7636_is_an_invalid_request(scene: Scene, verifier: str) -> None:
    with pytest.raises(InvalidRequestError, match="code_verifier"):
        await scene.exchange(await scene.code(), code_verifier=verifier)


async def test_an_expired_code_is_refused(scene: Scene) -> None:
    code = await scene.code()
    scene.node.clock.elapsed += CODE_TTL
    with pytest.raises(GrantInvalidError, match="expired"):
        await scene.exchange(code)


async def test_concurrent_exchanges_open_one_session(scene: Scene) -> None:
    code = await scene.code()
    results = await asyncio.gather(*(scene.exchange(code) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, IssuedTokens) for result in results) == 1
    assert sum(isinstance(result, GrantInvalidError) for result in results) == 9
    assert await scene.sessions() == [SessionState.REVOKED]


@pytest.mark.parametrize(
    "target", [(RevocationTarget.SUBJECT, "alice"), (RevocationTarget.EVERYTHING, "")], ids=["subject", "all"]
)
async def test_a_revocation_between_code_and_token_ends_the_code(
    scene: Scene, target: tuple[RevocationTarget, str]
) -> None:
    code = await scene.code()
    await scene.node.revoke(target=target[0], value=target[1])
    with pytest.raises(GrantInvalidError, match="revoked since"):
        await scene.exchange(code)
    assert await scene.sessions() == [SessionState.REVOKED]


async def test_a_revocation_before_the_code_does_not_matter(scene: Scene) -> None:
    await scene.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    assert (await scene.exchange(await scene.code())).access_token


async def test_a_client_disabled_between_code_and_token_gets_nothing(scene: Scene) -> None:
    code = await scene.code()
    await scene.node.core.client_administration.disable(Caller.system(), "app", 1.0)
    with pytest.raises(ClientDisabledError):
        await scene.exchange(code)
    assert await scene.sessions() == []


async def test_an_exchange_that_failed_before_its_session_can_be_repeated() -> None:
    scene = await Scene.make()
    sessions = Intercepted(scene.node.session_store)
    scene.node.issuer._sessions = sessions
    sessions.before["create"] = raising(StoreUnavailableError())
    code = await scene.code()
    with pytest.raises(StoreUnavailableError):
        await scene.exchange(code)
    sessions.before.clear()
    assert (await scene.exchange(code)).access_token


async def test_an_exchange_whose_answer_was_lost_leaves_one_session_that_a_repeat_ends(scene: Scene) -> None:
    sessions = Intercepted(scene.node.session_store)
    scene.node.issuer._sessions = sessions
    sessions.after["create"] = raising(StoreUnavailableError())
    code = await scene.code()
    with pytest.raises(StoreUnavailableError):
        await scene.exchange(code)
    sessions.after.clear()
    with pytest.raises(GrantInvalidError, match="used before"):
        await scene.exchange(code)
    assert await scene.sessions() == [SessionState.REVOKED]


async def test_resource_narrows_the_access_token_and_not_the_session(scene: Scene) -> None:
    both = ("https://orders.example", "https://mail.example")
    code = await scene.code(audience=both)
    tokens = await scene.exchange(code, request=GrantRequest(audience=("https://mail.example",)))
    assert (await claims(scene, tokens.access_token)).audience == ("https://mail.example",)
    assert (await scene.node.session(tokens.session_id)).audience == both
    with pytest.raises(ScopeExceededError):
        await scene.exchange(await scene.code(), request=GrantRequest(audience=("https://mail.example",)))


async def test_a_code_of_one_node_is_exchanged_at_another_one(scene: Scene) -> None:
    other = await Node(scene.node.clock, stores=scene.node.stores, node_id="node-2", seed=2).start()
    there = Scene(other)
    assert (await there.exchange(await scene.code())).access_token


@given(st.data())
async def test_a_changed_code_is_refused(data: st.DataObject) -> None:
    scene = await Scene.make()
    code = await scene.code()
    place = data.draw(st.integers(0, len(code) - 1))
    changed = (
        code[:place]
        + data.draw(st.sampled_from("AZaz09-_").filter(lambda c: c != code[place]))
        + code[place + 1 :]
    )
    if base64url_equal(changed, code):
        return
    with pytest.raises(GrantInvalidError):
        await scene.exchange(changed)


def base64url_equal(one: str, other: str) -> bool:
    try:
        return base64url.decode(one.encode()) == base64url.decode(other.encode())
    except ValueError:
        return False


@given(st.text(max_size=200))
async def test_any_other_text_is_refused(text: str) -> None:
    scene = await Scene.make()
    with pytest.raises(GrantInvalidError):
        await scene.exchange(text)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "missing"}, ClientNotFoundError),
        ({"redirect_uri": "https://app.example/cb/"}, InvalidRequestError),
        ({"redirect_uri": "https://evil.example/cb"}, InvalidRequestError),
        ({"code_challenge": "plain"}, InvalidRequestError),
        ({"code_challenge": "é" * 43}, InvalidRequestError),
        ({"subject": ""}, InvalidRequestError),
        ({"scopes": ("admin",)}, PolicyViolationError),
        ({"audience": ("https://other.example",)}, PolicyViolationError),
        ({"audience": ()}, PolicyViolationError),
        ({"nonce": "n" * 257}, InvalidRequestError),
        ({"custom_claims": {f"c{n}": "x" * 100 for n in range(60)}}, Exception),
        ({"identity_claims": {"name": "x" * 10_000}}, CustomClaimsTooLargeError),
        ({"identity_claims": {"sub": "bob"}}, ReservedClaimError),
        ({"identity_claims": {"password": "x"}}, CustomClaimNotAllowedError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
async def test_a_grant_outside_of_the_registration_is_refused(
    scene: Scene, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await scene.code(**changes)


async def test_a_client_without_the_grant_type_gets_no_code(scene: Scene) -> None:
    await scene.node.core.client_administration.create(
        Caller.system(), "batch", ClientMetadata(redirect_uris=(REDIRECT,), scopes=("openid",)), 0.0
    )
    with pytest.raises(GrantTypeNotAllowedError):
        await scene.code(Caller.system(), client_id="batch", scopes=(), audience=())


async def test_a_login_service_stays_within_its_right(scene: Scene) -> None:
    subjects_only = Caller(
        "login",
        Rights([Right(permission=Permission.ISSUE, clients=("app",), may=(May.OTHER_SUBJECTS,))]),
    )
    assert await scene.code(subjects_only)
    with pytest.raises(PermissionDeniedError):
        await scene.code(subjects_only, auth_context=AuthContext("urn:mfa"))
    with pytest.raises(PermissionDeniedError):
        await scene.code(subjects_only, custom_claims={"team": "blue"})
    with pytest.raises(PermissionDeniedError):
        await scene.code(subjects_only, identity_claims={"email": "a@example.org"})
    with pytest.raises(PermissionDeniedError):
        await scene.code(Caller("login", Rights([Right(permission=Permission.ISSUE, clients=("web",))])))


async def test_no_code_makes_its_holder_the_client_itself(scene: Scene) -> None:
    await scene.node.core.client_administration.create(
        Caller.system(),
        "own",
        ClientMetadata(grant_types=(AUTHORIZATION_CODE,), redirect_uris=(REDIRECT,)),
        0.0,
    )
    login = Caller("login", Rights([Right(permission=Permission.ISSUE, clients=("own",))]))
    with pytest.raises(PermissionDeniedError, match="act with the rights of the client"):
        await scene.code(login, client_id="own", subject="own", scopes=(), audience=())


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://app.example/cb", True),
        ("https://app.example/cb?x=1", False),
        ("https://APP.example/cb", False),
        ("https://app.example:443/cb", False),
        ("http://127.0.0.1:51004/cb", True),
        ("http://127.0.0.1:51004/other", False),
        ("http://127.0.0.1:51004/cb#f", False),
        ("http://a@127.0.0.1:51004/cb", False),
        ("http://127.0.0.1:x/cb", False),
        ("https://127.0.0.1:51004/cb", False),
        ("http://127.0.0.2:51004/cb", False),
    ],
)
def test_a_redirect_uri_is_compared_exactly_except_for_the_port_of_a_loopback_address(
    uri: str,
    expected: bool,  # noqa: FBT001
) -> None:
    assert is_registered_redirect(uri, APP.redirect_uris) is expected
