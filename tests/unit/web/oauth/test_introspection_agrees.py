"""The introspection endpoint and ValidateToken give the same verdict on every token, at every time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from tests.support.hostile_tokens import NOW, VECTORS, token_of
from tests.support.token_mint import Mint
from tests.unit.core.node import ISSUER
from tests.unit.core.validation.test_introspector import signed
from tests.unit.core.virtual_time import START
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.issuing.commands import ISSUABLE, IssuedTokens
from token_service.core.issuing.personal_access_tokens import CreateCommand
from token_service.core.policies.policy import DAY
from token_service.core.policies.rights import Permission
from token_service.errors import ServiceError
from token_service.rpc.services.validation import Validation
from token_service.tokens.claims import AuthContext, Confirmation
from token_service.tokens.key_set import KeySet
from token_service.tokens.revocation import RevocationTarget
from token_service.v1 import token_pb2, token_service_pb2 as pb

_KINDS = dict(token_pb2.TokenType.items())


class Scene:
    """A node with both endpoints, and the texts of all tokens so far."""

    def __init__(self, app: OAuthApp) -> None:
        self.app = app
        core = app.node.core
        self.validation = Validation(core.introspector, core.replica, app.clock, ISSUER)
        self.tokens: list[str] = []
        self.sessions: list[IssuedTokens] = []

    @classmethod
    async def start(cls, **node: Any) -> Scene:
        app = await OAuthApp.start(**node)
        await app.register("gateway", Permission.VALIDATE)
        for client_id in ("web", "api", "other"):
            await app.register(client_id)
        return cls(app)

    async def validated(self, token: str) -> pb.ValidateTokenResponse:
        """Return the answer of ValidateToken, from memory where the RPC answers from memory."""
        request = pb.ValidateTokenRequest(token=token, caller_checks_binding=True)
        encoded = self.validation.validate_at_once(request.SerializeToString(), Caller.system())
        if encoded is None:
            encoded = await self.validation.ValidateToken(request, Caller.system())
        return pb.ValidateTokenResponse.FromString(encoded)

    async def introspected(self, token: str, client_id: str = "gateway") -> dict[str, Any]:
        answer = await self.app.post("/introspect", {"token": token}, client_id=client_id)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def compare(self, token: str) -> bool:
        """Assert that both endpoints agree on a token; return whether it is active."""
        expected = await self.validated(token)
        body = await self.introspected(token)
        if not expected.active:
            assert body == {"active": False}
        else:
            claims = expected.claims
            audience = [body["aud"]] if isinstance(body["aud"], str) else body["aud"]
            assert body["active"] is True
            assert (
                _KINDS[f"TOKEN_TYPE_{body['token_use'].removesuffix('_token').upper()}"] == claims.token_type
            )
            assert (body["iss"], body["sub"], audience) == (claims.issuer, claims.subject, claims.audience)
            assert set(body.get("scope", "").split(" ")) - {""} == set(claims.scopes)
            assert (body["iat"], body["exp"]) == (claims.issue_time.seconds, claims.expire_time.seconds)
            for name, value in (
                ("client_id", claims.client_id),
                ("jti", claims.token_id),
                ("sid", claims.session_id),
                ("nbf", claims.not_before.seconds),
                ("acr", claims.auth_context.acr),
                ("auth_time", claims.auth_context.auth_time.seconds),
            ):
                assert body.get(name, type(value)()) == value
            assert body.get("amr", []) == claims.auth_context.amr
            cnf = {"jkt": claims.confirmation.jkt, "x5t#S256": claims.confirmation.x5t_s256}
            assert body.get("cnf", {}) == {name: value for name, value in cnf.items() if value}
        return bool(expected.active)

    async def compare_views(self, token: str) -> None:
        """Assert that clients without the right to validate see the same, or nothing."""
        expected = await self.validated(token)
        claims = expected.claims
        is_refresh = claims.token_type == token_pb2.TOKEN_TYPE_REFRESH
        for client_id in ("web", "api", "other"):
            has_part = client_id == claims.client_id or (client_id in claims.audience and not is_refresh)
            body = await self.introspected(token, client_id)
            assert body["active"] == (expected.active and has_part)


# --- Every state of tokens and sessions ------------------------------------------------------------------------------------------


_FLAWS: list[dict[str, Any]] = [
    {}, {"exp": 1}, {"nbf": START + 10_000}, {"iat": START + 10_000}, {"iss": "https://evil"}, {"jti": None},
    {"client_id": None}, {"sub": None}, {"aud": []}, {"aud": ["api", "x"]}, {"exp": START + 100.5}, {"scope": None},
    {"rev": -1}, {"rev": 10**9}, {"cnf": {"jkt": 3}}, {"sid": "x"}, {"header": {"alg": "none"}},
    {"header": {"kid": "other"}}, {"header": {"typ": "JWT"}}, {"header": {"crit": ["x"]}}, {"exp": 1e300},
]  # fmt: skip
_INDEX = st.integers(0, 1000)
_STEPS = st.one_of(
    st.tuples(st.just("issue"), st.sampled_from(["web", "api", "unregistered"]), st.booleans()),
    st.tuples(st.just("sign"), st.sampled_from(_FLAWS)),
    st.tuples(
        st.just("spoil"), _INDEX, st.integers(0, 5000), st.sampled_from(["", ".", "A", "é", "\0", "="])
    ),
    st.tuples(st.just("refresh"), _INDEX),
    st.tuples(
        st.just("revoke"), _INDEX, st.sampled_from(["token", "sid", "sub", "client", "key", "everything"])
    ),
    st.tuples(
        st.just("wait"), st.sampled_from([0.5, 5.0, 31.0, 1799.0, 1801.0, 3601.0, 86_400.0, 40 * 86_400.0])
    ),
    st.tuples(st.just("disable")),
)


async def step(scene: Scene, action: str, *arguments: Any) -> None:
    node = scene.app.node
    match action, *arguments:
        case "issue", client_id, is_plain:
            issued = await node.issue(
                client_id=client_id,
                kinds=ISSUABLE,
                scopes=("read",) if is_plain else (),
                audience=("api",) if is_plain else ("api", "x"),
                auth_context=None if is_plain else AuthContext("acr", ("pwd",), 1),
                confirmation=Confirmation() if is_plain else Confirmation(jkt="j" * 43),
                custom_claims={} if is_plain else {"active": False, "roles": ["r"]},
            )
            scene.sessions.append(issued)
            scene.tokens += [issued.access_token, issued.id_token, issued.refresh_token, issued.session_token]
        case "sign", flaw:
            changes = {name: value for name, value in flaw.items() if name != "header"}
            scene.tokens.append(await signed(node, flaw.get("header"), **changes))
        case "spoil", index, place, text if scene.tokens:
            token = scene.tokens[index % len(scene.tokens)]
            place %= len(token)
            scene.tokens.append(token[:place] + text + token[place + 1 :] or "x")
        case "refresh", index if scene.sessions:
            session = scene.sessions[index % len(scene.sessions)]
            refreshed = await node.refresh(session.refresh_token, "web")
            scene.sessions.append(refreshed)
            scene.tokens += [refreshed.access_token, refreshed.refresh_token]
        case "revoke", index, target if scene.sessions:
            session = scene.sessions[index % len(scene.sessions)]
            key_id = node.keyring.signing_keys()[0].key_id if target == "key" else ""
            await {
                "token": lambda: node.revoke(token=session.access_token),
                "sid": lambda: node.revoke(target=RevocationTarget.SESSION, value=session.session_id),
                "sub": lambda: node.revoke(target=RevocationTarget.SUBJECT, value="alice"),
                "client": lambda: node.revoke(target=RevocationTarget.CLIENT, value="web"),
                "key": lambda: node.revoke(target=RevocationTarget.KEY, value=key_id),
                "everything": lambda: node.revoke(target=RevocationTarget.EVERYTHING),
            }[target]()
        case "wait", seconds:
            scene.app.clock.elapsed += seconds
        case ("disable",):
            await node.core.client_administration.disable(Caller.system(), "other", node.clock.now())
            await node.core.client_administration.enable(Caller.system(), "other", node.clock.now())


@settings(max_examples=40)
@given(st.lists(_STEPS, min_size=1, max_size=10))
@example([("wait", 1799.0), ("wait", 2.0)])  # the end of an access token
@example([("revoke", 0, "token"), ("revoke", 0, "key"), ("revoke", 0, "everything")])
def test_verdicts_agree_in_every_history(steps: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        scene = await Scene.start()
        await step(scene, "issue", "web", False)
        for each in steps:
            with suppress(ServiceError):  # such as that of a refresh of a revoked session
                await step(scene, *each)
            for token in scene.tokens[-8:]:
                await scene.compare(token)
        for token in scene.tokens[-16:]:
            await scene.compare(token)
            await scene.compare_views(token)
        await scene.app.close()

    asyncio.run(run())


async def test_comparison_sees_active_and_inactive_tokens_of_every_kind() -> None:
    scene = await Scene.start()
    await step(scene, "issue", "web", True)
    assert [await scene.compare(token) for token in scene.tokens] == [True] * 4
    await step(scene, "revoke", 0, "sid")
    assert [await scene.compare(token) for token in scene.tokens] == [False] * 4
    await scene.app.close()


@pytest.mark.parametrize("flaw", _FLAWS, ids=repr)
async def test_verdicts_on_unusual_claims_agree(flaw: dict[str, Any]) -> None:
    scene = await Scene.start()
    await step(scene, "sign", flaw)
    await scene.compare(scene.tokens[0])
    await scene.compare_views(scene.tokens[0])
    await scene.app.close()


_CONDITIONAL = {"WRONG_AUDIENCE", "INSUFFICIENT_SCOPE"}
"""Reasons that only a request with an audience or scopes can get."""


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
async def test_verdicts_on_hostile_tokens_agree(vector: dict[str, Any]) -> None:
    scene = await Scene.start()
    mint = Mint("ES256", issuer=ISSUER)
    scene.app.clock.elapsed = NOW - START
    scene.app.node.verifier.replace_key_set(ISSUER, KeySet.from_jwks([mint.jwk]))
    token = token_of(vector, mint)
    if token and "\ud800" not in token:  # else no request can have it
        assert await scene.compare(token) == (vector.get("reason") in {None, *_CONDITIONAL})
    await scene.app.close()


async def test_verdicts_on_personal_access_tokens_agree() -> None:
    scene = await Scene.start()
    node = scene.app.node
    command = CreateCommand(
        subject="alice", client_id="web", name="backup", audience=("api",), scopes=("read",), ttl=30.0 * DAY
    )
    created = await node.core.personal_access_tokens.create(Caller.system(), command, node.clock.now())
    token = created.token
    assert await scene.compare(token)
    # Its recipient is this service: the audience gets access tokens for it.
    views = {
        client_id: (await scene.introspected(token, client_id))["active"] for client_id in ("web", "api")
    }
    assert views == {"web": True, "api": False}
    revoked = await scene.app.post("/revoke", {"token": token}, client_id="web")
    assert (revoked.status_code, revoked.content) == (200, b"")
    assert not await scene.compare(token)
    await scene.app.close()
