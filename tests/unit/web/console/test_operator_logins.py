"""What a caller that may issue tokens can make of the logins to the console."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

import pytest

from tests.unit.core.node import ISSUER
from tests.unit.web.console.login_scene import CALLBACK, CLIENT, SCOPES, LoginScene, OperatorBrowser
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.grants.authorization import AuthorizationGrantCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.login.challenge import AcceptCommand
from token_service.core.policies.rights import May, Permission, Right
from token_service.errors import PermissionDeniedError

REFUSED = r"those of an operator|excludes"
ALL_USES = (May.AUTH_CONTEXT, May.CUSTOM_CLAIMS, May.OTHER_SUBJECTS)


def issuer_with(*rights: Right) -> Caller:
    return Caller("backend", Rights(rights), Proof.CERTIFICATE, "backend")


UNBOUNDED = issuer_with(Right(permission=Permission.ISSUE, unbounded=True))
WITH_PATTERN = issuer_with(Right(permission=Permission.ISSUE, clients=("con*",), may=ALL_USES))
OF_AUDIENCE = issuer_with(Right(permission=Permission.ISSUE, audiences=(ISSUER,), may=ALL_USES))
JOINED = issuer_with(
    Right(permission=Permission.ISSUE, unbounded=True),
    Right(permission=Permission.ISSUE, clients=(CLIENT,), scopes=("openid",), may=ALL_USES),
)
LOGIN_SERVICE = issuer_with(Right(permission=Permission.ISSUE, clients=(CLIENT,), may=ALL_USES))
ADMINISTRATOR = Caller("root", Rights.of(Permission.ISSUE, Permission.ADMIN_WRITE), Proof.CERTIFICATE, "root")
OTHERS = pytest.mark.parametrize(
    "caller",
    [UNBOUNDED, WITH_PATTERN, OF_AUDIENCE, JOINED],
    ids=["unbounded", "pattern", "audience", "joined"],
)
TRUSTED = pytest.mark.parametrize("caller", [LOGIN_SERVICE, ADMINISTRATOR], ids=["login service", "admin"])


@pytest.fixture
async def scene() -> AsyncIterator[LoginScene]:
    running = await LoginScene.start()
    yield running
    await running.close()


async def forge(scene: LoginScene, browser: OperatorBrowser, caller: Caller) -> str:
    """Begin a login in a browser, make its code over gRPC instead of at a login service, and return the callback."""
    asked = dict(parse_qsl(urlsplit((await browser.begin())[1]).query))
    command = AuthorizationGrantCommand(
        client_id=CLIENT,
        redirect_uri=CALLBACK,
        code_challenge=asked["code_challenge"],
        subject="alice",
        audience=(ISSUER,),
        scopes=SCOPES,
        nonce=asked["nonce"],
        custom_claims={"groups": ["platform"]},
    )
    code, _ = await scene.core.oauth.authorization_grants.create(caller, command, scene.clock.now())
    return f"{CALLBACK}?{urlencode({'code': code, 'state': asked['state'], 'iss': ISSUER})}"


@OTHERS
async def test_caller_that_may_issue_does_not_become_an_operator_with_a_code(
    scene: LoginScene, caller: Caller
) -> None:
    with pytest.raises(PermissionDeniedError, match=REFUSED):
        await forge(scene, scene.browser(), caller)


@TRUSTED
async def test_code_of_a_trusted_caller_logs_an_operator_in(scene: LoginScene, caller: Caller) -> None:
    browser = scene.browser()
    url = await forge(scene, browser, caller)
    assert (await browser.get(url, site="cross-site")).status_code == 200
    assert (await browser.get("/console")).status_code == 200


@OTHERS
async def test_caller_that_may_issue_does_not_accept_logins_of_operators(
    scene: LoginScene, caller: Caller
) -> None:
    challenge, _ = await scene.browser().begin()
    command = AcceptCommand(login_challenge=challenge, subject="alice")
    with pytest.raises(PermissionDeniedError, match=REFUSED):
        await scene.login.challenges.accept(caller, command, scene.clock.now())


@TRUSTED
async def test_trusted_caller_accepts_logins_of_operators(scene: LoginScene, caller: Caller) -> None:
    challenge, _ = await scene.browser().begin()
    command = AcceptCommand(login_challenge=challenge, subject="alice")
    assert await scene.login.challenges.accept(caller, command, scene.clock.now())


@OTHERS
async def test_caller_that_may_issue_does_not_put_a_login_into_a_group(
    scene: LoginScene, caller: Caller
) -> None:
    browser = scene.browser()
    await browser.log_in("mallory")
    with pytest.raises(PermissionDeniedError, match=REFUSED):
        await join_platform(scene, caller)
    scene.clock.elapsed += 3700
    assert (await browser.get("/console")).status_code == 403


@TRUSTED
async def test_trusted_caller_puts_a_login_into_a_group(scene: LoginScene, caller: Caller) -> None:
    browser = scene.browser()
    await browser.log_in("mallory")
    await join_platform(scene, caller)
    scene.clock.elapsed += 3700
    assert (await browser.get("/console")).status_code == 200


async def join_platform(scene: LoginScene, caller: Caller) -> None:
    (issued,) = scene.node.audit.named("token.issued")
    command = UpdateSessionCommand(
        session_id=str(UUID(str(issued["session_id"]))),
        client_id=CLIENT,
        fields=frozenset({"custom_claims"}),
        custom_claims={"groups": ["platform"]},
    )
    await scene.core.session_updates.update(caller, command, scene.clock.now())
