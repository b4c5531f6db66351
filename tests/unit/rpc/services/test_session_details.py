"""GetSession and ListSessions show where a session came from, and when, why and through what it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.rpc.serving import TIMEOUT, Served, serving
from token_service.clock import SystemClock
from token_service.v1 import session_service_pb2 as sessions_pb, token_pb2, token_service_pb2 as pb

HOME = token_pb2.ClientContext(ip_address="192.0.2.1", user_agent="Firefox")
TRAIN = token_pb2.ClientContext(ip_address="2001:db8::7", user_agent="Chromium")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as opened:
        yield opened


async def shown(served: Served, session_id: str) -> sessions_pb.Session:
    """Return a session as GetSession shows it. ListSessions must show it alike."""
    request = sessions_pb.GetSessionRequest(session_id=session_id)
    session: sessions_pb.Session = (await served.sessions.GetSession(request, timeout=TIMEOUT)).session
    page = await served.sessions.ListSessions(
        sessions_pb.ListSessionsRequest(subject=session.subject), timeout=TIMEOUT
    )
    assert [other for other in page.sessions if other.session_id == session_id] == [session]
    return session


async def refresh(served: Served, token: str, **fields: Any) -> pb.RefreshTokenResponse:
    request = pb.RefreshTokenRequest(refresh_token=token, client_id="web", **fields)
    response: pb.RefreshTokenResponse = await served.tokens.RefreshToken(request, timeout=TIMEOUT)
    return response


async def test_client_context_of_issue_and_last_refresh_is_shown(served: Served) -> None:
    issued = await served.issue(client_context=HOME)
    session = await shown(served, issued.session_id)
    assert (session.created_from, session.last_used_from) == (HOME, HOME)
    refreshed = await refresh(served, issued.refresh_token, client_context=TRAIN)
    session = await shown(served, issued.session_id)
    assert (session.created_from, session.last_used_from) == (HOME, TRAIN)
    await refresh(served, refreshed.refresh_token)
    session = await shown(served, issued.session_id)
    assert (session.created_from, session.last_used_from) == (HOME, TRAIN)


async def test_upstream_of_the_login_is_shown_without_the_claims_about_the_user(served: Served) -> None:
    issued = await served.node.issue(upstream="corporate", identity_claims={"email": "a@example.org"})
    session = await shown(served, issued.session_id)
    assert session.upstream == "corporate"
    assert "a@example.org" not in str(session)
    assert (await shown(served, (await served.issue()).session_id)).upstream == ""


async def test_session_without_client_context_has_no_origin(served: Served) -> None:
    session = await shown(served, (await served.issue()).session_id)
    assert not session.HasField("created_from")
    assert not session.HasField("last_used_from")


@pytest.mark.parametrize(
    ("target", "through"),
    [
        ({"subject": "alice"}, sessions_pb.REVOKED_THROUGH_SUBJECT),
        ({"client_id": "web"}, sessions_pb.REVOKED_THROUGH_CLIENT),
        ({"everything": True}, sessions_pb.REVOKED_THROUGH_EVERYTHING),
    ],
)
async def test_session_says_when_why_and_through_what_it_ended(
    served: Served, target: dict[str, Any], through: sessions_pb.RevokedThrough
) -> None:
    issued = await served.issue()
    session = await shown(served, issued.session_id)
    assert not session.HasField("revoke_time")
    assert session.revoked_through == sessions_pb.REVOKED_THROUGH_UNSPECIFIED
    before = SystemClock().now()
    await served.revoke(**target, reason=pb.REVOCATION_REASON_CREDENTIALS_CHANGED)
    after = SystemClock().now()
    # The session ended before this revocation, which must not change when and why.
    await served.revoke(session_id=issued.session_id, reason=pb.REVOCATION_REASON_LOGOUT)
    session = await shown(served, issued.session_id)
    assert session.state == sessions_pb.SESSION_STATE_REVOKED
    assert session.revoked_through == through
    assert session.revoke_reason == pb.REVOCATION_REASON_CREDENTIALS_CHANGED
    assert before - 1e-6 <= session.revoke_time.ToNanoseconds() / 1e9 <= after + 1e-6


async def test_session_revoked_itself_says_so(served: Served) -> None:
    issued = await served.issue()
    await served.revoke(session_id=issued.session_id, reason=pb.REVOCATION_REASON_LOGOUT)
    await served.revoke(subject="alice", reason=pb.REVOCATION_REASON_COMPROMISED)
    session = await shown(served, issued.session_id)
    assert session.revoked_through == sessions_pb.REVOKED_THROUGH_SESSION
    assert session.revoke_reason == pb.REVOCATION_REASON_LOGOUT
