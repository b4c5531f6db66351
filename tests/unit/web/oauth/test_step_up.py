"""Step-up (RFC 9470): `id_token_hint` with `acr_values` or `max_age` raises the session of the ID token."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, raising
from tests.unit.core.virtual_time import START
from tests.unit.web.oauth.bound_scene import Bound, bound_to, refusal
from tests.unit.web.oauth.browser_login import PARAMETERS, REDIRECT, Login, challenge_of, location
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN, SubjectType
from token_service.core.issuing.commands import IssueCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.login.step_up import is_weaker
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionFilter
from token_service.errors import StoreUnavailableError
from token_service.tokens.claims import AuthContext, TokenKind
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret

T = int(START) - 3600
PWD = AuthContext("urn:pwd", ("pwd",), T + 1000)
MFA = AuthContext("urn:mfa", ("pwd", "otp"), T + 2000)
NO_SECTORS = object()
"""No client here names a document of its sector."""


class User:
    """A user at the client `app`."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self.browser = login.browser()

    async def code(self, context: AuthContext | None, subject: str = "alice", **asked: Any) -> dict[str, str]:
        """Return the answer to an authorization request, after a login."""
        begun = await self.login.begin(self.browser, **asked)
        url = await self.login.accept(challenge_of(begun), subject, auth_context=context)
        return location(await self.browser.get(url))

    async def tokens(self, context: AuthContext | None = PWD, subject: str = "alice", **asked: Any) -> Any:
        answer = await self.login.exchange((await self.code(context, subject, **asked))["code"])
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refresh(self, refresh_token: str) -> Any:
        parameters = {"grant_type": REFRESH_TOKEN, "client_id": "app", "refresh_token": refresh_token}
        answer = await self.login.app.post("/token", parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def sessions(self) -> list[Session]:
        """Return the sessions of the client."""
        page = await self.login.app.node.core.ports.stores.sessions.list(
            SessionFilter.CLIENT, "app", live_at=None, limit=20, after=None
        )
        return [details.session for details in page]


@pytest.fixture
def user(login: Login) -> User:
    return User(login)


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


def context_of(tokens: Any) -> tuple[Any, Any, Any]:
    """Return what the access token and the ID token say about the authentication, which must be the same."""
    access, identity = claims_of(tokens["access_token"]), claims_of(tokens["id_token"])
    context = access.get("auth_ctx", {})
    for name in ("acr", "amr", "auth_time"):
        assert context.get(name) == identity.get(name)
    return context.get("acr"), context.get("amr"), context.get("auth_time")


async def test_step_up_raises_the_session_of_the_id_token(user: User) -> None:
    old = await user.tokens()
    new = await user.tokens(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa", nonce="n-2")
    assert context_of(old) == ("urn:pwd", ["pwd"], T + 1000)
    assert context_of(new) == ("urn:mfa", ["pwd", "otp"], T + 2000)
    assert claims_of(new["id_token"])["sid"] == claims_of(old["id_token"])["sid"]
    assert claims_of(new["id_token"])["nonce"] == "n-2"
    assert "refresh_token" not in new
    (session,) = await user.sessions()
    assert session.auth_context == MFA


async def test_raise_of_a_bound_session_needs_the_proof_of_its_key(app: OAuthApp) -> None:
    bound = await Bound.make(app)
    user = User(bound.login)
    code = (await user.code(PWD))["code"]
    old = (await bound.exchange_code(code, bound.proof())).json()
    raising_code = (await user.code(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa"))["code"]
    assert refusal(await bound.exchange_code(raising_code, None))[1] == "BINDING_REQUIRED"
    assert refusal(await bound.exchange_code(raising_code, bound.proof(bound.other)))[1] == "WRONG_KEY"
    (session,) = await user.sessions()
    assert session.auth_context == PWD
    answer = await bound.exchange_code(raising_code, bound.proof())
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    assert context_of(answer.json()) == ("urn:mfa", ["pwd", "otp"], T + 2000)


async def test_later_refreshes_carry_the_new_context_and_earlier_tokens_stay_valid(user: User) -> None:
    old = await user.tokens()
    before = await user.refresh(old["refresh_token"])
    await user.tokens(MFA, id_token_hint=before["id_token"], acr_values="urn:mfa")
    after = await user.refresh(before["refresh_token"])
    assert context_of(before) == ("urn:pwd", ["pwd"], T + 1000)
    assert context_of(after) == ("urn:mfa", ["pwd", "otp"], T + 2000)
    for token in (old["access_token"], before["access_token"], after["access_token"]):
        assert (await user.login.app.node.validate(token)).reason is None


async def test_max_age_alone_renews_the_time_of_the_authentication(user: User) -> None:
    old = await user.tokens()
    again = AuthContext("urn:pwd", ("pwd",), T + 3600)
    new = await user.tokens(again, id_token_hint=old["id_token"], max_age="60")
    assert context_of(new) == ("urn:pwd", ["pwd"], T + 3600)
    assert len(await user.sessions()) == 1


async def test_hint_counts_after_the_expiry_of_the_id_token(user: User) -> None:
    old = await user.tokens()
    user.login.app.clock.elapsed += claims_of(old["id_token"])["exp"] - user.login.app.clock.now() + 1
    await user.tokens(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa")
    (session,) = await user.sessions()
    assert session.auth_context == MFA


async def test_pushed_request_and_post_carry_the_hint(user: User) -> None:
    old = await user.tokens()
    asked = {"id_token_hint": old["id_token"], "acr_values": "urn:mfa"}
    pushed = await user.login.app.post("/par", {**PARAMETERS, **asked})
    begun = await user.browser.get(
        "/authorize", params={"client_id": "app", "request_uri": pushed.json()["request_uri"]}
    )
    await finish(user, begun)
    await finish(user, await user.browser.post("/authorize", data={**PARAMETERS, **asked}))
    assert len(await user.sessions()) == 1


async def finish(user: User, begun: httpx.Response) -> None:
    url = await user.login.accept(challenge_of(begun), auth_context=MFA)
    answer = await user.login.exchange(location(await user.browser.get(url))["code"])
    assert "refresh_token" not in answer.json()


@pytest.mark.parametrize("prompt", [None, "none", "login"])
async def test_login_of_another_user_than_that_of_the_hint_is_refused(user: User, prompt: str | None) -> None:
    old = await user.tokens()
    now = AuthContext("urn:mfa", auth_time=int(user.login.app.clock.now()))
    answer = await user.code(now, "bob", id_token_hint=old["id_token"], acr_values="urn:mfa", prompt=prompt)
    assert (answer["error"], answer["state"]) == ("login_required", "s-1")
    assert "code" not in answer


async def opens_another_session(user: User, hint: str, context: AuthContext = MFA, **asked: Any) -> None:
    """Assert that a request opens a session and leaves that of the hint as it is."""
    before = await user.sessions()
    tokens = await user.tokens(context, **{"id_token_hint": hint, "acr_values": "urn:mfa", **asked})
    assert "refresh_token" in tokens
    after = await user.sessions()
    assert len(after) == len(before) + 1
    assert {session.id: session for session in before}.items() <= {
        session.id: session for session in after
    }.items()


async def test_hint_that_is_no_id_token_of_the_client_counts_for_nothing(user: User) -> None:
    old = await user.tokens()
    header, payload, signature = old["id_token"].split(".")
    forged = f"{header}.{payload}.{signature[:-4]}AAAA"
    for hint in (forged, old["access_token"], old["refresh_token"], "x", "é", "a" * 9000):
        await opens_another_session(user, hint)
    await user.login.app.register_public(
        "theirs",
        grant_types=(AUTHORIZATION_CODE, REFRESH_TOKEN),
        redirect_uris=(REDIRECT,),
        scopes=("openid", "read"),
        first_party=True,
    )
    theirs = await user.login.app.node.core.issuer.issue(
        Caller.system(),
        IssueCommand(subject="bob", client_id="theirs", kinds=frozenset({TokenKind.REFRESH, TokenKind.ID})),
        user.login.app.clock.now(),
    )
    await opens_another_session(user, theirs.id_token)


async def test_hint_of_a_session_that_has_ended_opens_another_one(user: User) -> None:
    old = await user.tokens()
    await user.login.app.node.revoke(target=RevocationTarget.SESSION, value=claims_of(old["id_token"])["sid"])
    await opens_another_session(user, old["id_token"])


async def test_request_for_more_than_the_session_has_opens_another_one(user: User) -> None:
    old = await user.tokens(scope="openid")
    await opens_another_session(user, old["id_token"], scope="openid read")


async def test_login_at_another_upstream_opens_another_session(user: User) -> None:
    """The end of a session at its upstream must end the session here, so one session has one upstream."""
    old = await user.tokens()
    await opens_another_session(user, old["id_token"], upstream="other")


async def test_narrower_request_gets_narrower_tokens_and_leaves_the_session_its_scopes(user: User) -> None:
    old = await user.tokens()
    new = await user.tokens(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa", scope="openid")
    assert new["scope"] == "openid"
    assert claims_of(new["access_token"])["scope"] == "openid"
    assert claims_of((await user.refresh(old["refresh_token"]))["access_token"])["scope"] == "openid read"


async def test_hint_without_a_demand_is_an_ordinary_login(user: User) -> None:
    old = await user.tokens()
    await opens_another_session(user, old["id_token"], acr_values=None)


async def test_session_is_never_weakened(user: User) -> None:
    old = await user.tokens(MFA)
    weaker = AuthContext("urn:pwd", ("pwd",), T + 3000)
    await opens_another_session(user, old["id_token"], weaker, acr_values=None, max_age="7200")
    await opens_another_session(user, old["id_token"], weaker, acr_values="urn:mfa urn:pwd")
    await opens_another_session(user, old["id_token"], AuthContext("urn:mfa", ("otp",), T + 1999))
    await opens_another_session(user, old["id_token"], AuthContext("urn:mfa", ("otp",)))


@pytest.mark.parametrize(
    ("new", "old", "acr_values", "weaker"),
    [
        (PWD, None, (), False),
        (MFA, PWD, ("urn:mfa",), False),
        (MFA, PWD, (), True),
        (PWD, MFA, ("urn:pwd",), True),  # older
        (AuthContext("urn:pwd", (), T + 2000), MFA, ("urn:pwd",), False),
        (AuthContext("urn:pwd", (), T + 2000), MFA, ("urn:mfa", "urn:pwd"), True),
        (AuthContext("urn:pwd", (), T + 2000), MFA, ("urn:pwd", "urn:mfa"), False),
        (AuthContext("urn:pwd", (), T + 2000), PWD, (), False),
        (AuthContext("", ("pwd",), T + 2000), AuthContext("", ("pwd",), T + 1000), (), False),
        (AuthContext("", ("pwd",), T + 2000), AuthContext("", ("pwd", "otp"), T + 1000), (), True),
        (AuthContext("", ("pwd", "otp"), T + 2000), MFA, (), True),
        (AuthContext("urn:pwd"), AuthContext("urn:pwd", (), 1), (), True),
        (AuthContext("urn:pwd", (), 1), AuthContext("urn:pwd"), (), False),
    ],
)
def test_weaker_context(
    new: AuthContext, old: AuthContext | None, acr_values: tuple[str, ...], *, weaker: bool
) -> None:
    assert is_weaker(new, old, acr_values) is weaker


async def test_code_of_a_step_up_presented_again_revokes_the_session(user: User) -> None:
    old = await user.tokens()
    answer = await user.code(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa")
    assert (await user.login.exchange(answer["code"])).status_code == 200
    # Another change of the session in between hides nothing.
    await update(user, AuthContext("urn:other", auth_time=T + 3000))
    refused = await user.login.exchange(answer["code"])
    assert refused.json()["error"] == "invalid_grant"
    (session,) = await user.sessions()
    assert session.state(user.login.app.clock.now()) is SessionState.REVOKED
    assert (await user.login.exchange(answer["code"])).json()["error"] == "invalid_grant"
    assert len(await user.sessions()) == 1


async def test_code_of_a_step_up_opens_nothing_after_its_session_has_ended(user: User) -> None:
    old = await user.tokens()
    answer = await user.code(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa")
    await user.login.app.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    assert (await user.login.exchange(answer["code"])).json()["error"] == "invalid_grant"
    assert len(await user.sessions()) == 1


async def test_step_up_that_was_overtaken_is_refused_and_ends_nothing(user: User) -> None:
    old = await user.tokens()
    asked = {"id_token_hint": old["id_token"], "acr_values": "urn:mfa"}
    earlier = await user.code(MFA, **asked)
    later = await user.code(AuthContext("urn:mfa", ("pwd", "otp"), T + 2001), **asked)
    assert (await user.login.exchange(later["code"])).status_code == 200
    refused = await user.login.exchange(earlier["code"])
    assert refused.json()["error"] == "invalid_grant"
    assert "authenticated again" in refused.json()["error_description"]
    (session,) = await user.sessions()
    assert session.auth_context is not None
    assert session.auth_context.auth_time == T + 2001
    await user.refresh(old["refresh_token"])


async def test_two_tabs_with_one_authentication_both_get_tokens(user: User) -> None:
    old = await user.tokens()
    asked = {"id_token_hint": old["id_token"], "acr_values": "urn:mfa"}
    codes = [(await user.code(MFA, **asked))["code"] for _ in range(2)]
    for code in codes:
        assert context_of((await user.login.exchange(code)).json())[0] == "urn:mfa"


async def test_concurrent_exchanges_of_one_code_raise_once(user: User) -> None:
    old = await user.tokens()
    answer = await user.code(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa")
    answers = await asyncio.gather(*(user.login.exchange(answer["code"]) for _ in range(6)))
    assert sorted(each.status_code for each in answers) == [200, *[400] * 5]
    assert len(await user.sessions()) == 1


async def test_failed_raise_leaves_the_code_usable() -> None:
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    app = await OAuthApp.start(stores=stores, sessions=sessions)
    user = User(await Login.of(app))
    old = await user.tokens()
    answer = await user.code(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa")
    sessions.before["raise_context"] = raising(StoreUnavailableError())
    assert (await user.login.exchange(answer["code"])).status_code == 503
    del sessions.before["raise_context"]
    assert context_of((await user.login.exchange(answer["code"])).json())[0] == "urn:mfa"
    await app.close()


async def test_raise_is_audited_with_its_client(user: User) -> None:
    old = await user.tokens()
    await user.tokens(MFA, id_token_hint=old["id_token"], acr_values="urn:mfa")
    (event,) = user.login.app.node.audit.named("session.updated")
    assert event["session_id"] == claims_of(old["id_token"])["sid"]
    assert (event["cause"], event["acr"], event["actor"]) == ("step_up", "urn:mfa", "caller:app")


async def test_pairwise_subject_of_the_hint_is_compared_as_the_users() -> None:
    app = await OAuthApp.start(pairwise_key=Secret(b"p" * 32), sectors=NO_SECTORS)
    user = User(await Login.of(app, subject_type=SubjectType.PAIRWISE, redirect_uris=(REDIRECT,)))
    old = await user.tokens()
    assert claims_of(old["id_token"])["sub"] != "alice"
    asked = {"id_token_hint": old["id_token"], "acr_values": "urn:mfa"}
    assert (await user.code(MFA, "bob", **asked))["error"] == "login_required"
    await user.tokens(MFA, **asked)
    assert len(await user.sessions()) == 1
    await app.close()


async def update(user: User, context: AuthContext) -> None:
    (session,) = await user.sessions()
    await user.login.app.node.core.session_updates.update(
        Caller.system(),
        UpdateSessionCommand(
            session_id=str(session.id),
            client_id="app",
            fields=frozenset({"auth_context"}),
            auth_context=context,
        ),
        user.login.app.clock.now(),
    )
