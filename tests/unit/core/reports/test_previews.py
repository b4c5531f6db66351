"""PreviewRevocation tells what RevokeToken then does, for every kind of target and token."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.node import SYSTEM, Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.issuing.personal_access_tokens import CreateCommand
from token_service.core.policies.policy import Policy
from token_service.core.reports import previews
from token_service.core.reports.previews import RevocationPreview
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.sessions.selection import Accuracy, SessionReach
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import InvalidRequestError
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import RevocationTarget

POLICY = Policy(access_token_ttl=600, id_token_ttl=300, transaction_token_ttl=60, refresh_token_ttl=86_400)
ALL_KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.SESSION, TokenKind.ID})


@pytest.fixture
async def node() -> Node[ManualClock]:
    return await Node(ManualClock(), policy=POLICY, max_staleness=1e12).start()


async def preview(node: Node[ManualClock], **command: Any) -> RevocationPreview:
    return await node.core.revocation_previews.preview(
        Caller.system(), RevokeCommand(**command), node.clock.now()
    )


@pytest.mark.parametrize("kind", ["refresh_token", "session_token", "personal"])
async def test_opaque_token_stands_for_its_session(node: Node[ManualClock], kind: str) -> None:
    tokens = await node.issue(kinds=ALL_KINDS)
    if kind == "personal":
        created = await node.core.personal_access_tokens.create(
            Caller.system(),
            CreateCommand(
                subject="alice", client_id="web", name="n", audience=("api",), scopes=("read",), ttl=60.0
            ),
            node.clock.now(),
        )
        token, session_id, end = created.token, str(created.session.id), node.clock.now() + 600
    else:
        token, session_id, end = getattr(tokens, kind), tokens.session_id, node.clock.now() + 86_400
    found = await preview(node, token=token)
    assert found.target == f"session {session_id}"
    assert (found.reach.sessions, found.reach.subjects, found.reach.top_clients) == (1, 1, [("web", 1)])
    assert found.tokens_expire_time == pytest.approx(end, abs=1)
    assert not found.already_revoked
    assert found.warnings == []
    await node.revoke(token=token)
    again = await preview(node, token=token)
    assert (again.already_revoked, again.reach.sessions, again.tokens_expire_time) == (True, 0, None)


async def test_jwt_stands_for_its_id(node: Node[ManualClock]) -> None:
    tokens = await node.issue()
    found = await preview(node, token=tokens.access_token)
    assert found.target.startswith("token id ")
    assert found.reach.sessions == 0
    assert found.tokens_expire_time == int(node.clock.now()) + 600
    token_id = found.target.removeprefix("token id ")
    assert (await preview(node, target=RevocationTarget.TOKEN_ID, value=token_id)).target == found.target
    await node.revoke(token=tokens.access_token)
    assert (await preview(node, token=tokens.access_token)).already_revoked


async def test_worthless_token_reaches_nothing(node: Node[ManualClock]) -> None:
    for token in ("rubbish", "ts_rt_rubbish", "a.b.c"):
        found = await preview(node, token=token)
        assert (found.target, found.reach.sessions, found.tokens_expire_time) == ("no valid token", 0, None)
        assert len(found.warnings) == 1
        assert token not in repr(found)


async def test_subject_client_and_everything_count_their_sessions(node: Node[ManualClock]) -> None:
    await node.issue()
    await node.issue(client_id="app")
    await node.issue("bob")
    by_target = {
        (RevocationTarget.SUBJECT, "alice"): ("subject alice", 2, 1, [("app", 1), ("web", 1)]),
        (RevocationTarget.CLIENT, "web"): ("client web", 2, 2, [("web", 2)]),
        (RevocationTarget.EVERYTHING, ""): ("everything", 3, 2, [("web", 2), ("app", 1)]),
    }
    for (target, value), expected in by_target.items():
        found = await preview(node, target=target, value=value)
        reach = found.reach
        assert (found.target, reach.sessions, reach.subjects, reach.top_clients) == expected
        assert reach.accuracy is Accuracy.EXACT
        assert found.tokens_expire_time == pytest.approx(node.clock.now() + 86_400, abs=1)
        assert ("every session" in " ".join(found.warnings)) == (target is RevocationTarget.EVERYTHING)
        assert not found.already_revoked
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    gone = await preview(node, target=RevocationTarget.SUBJECT, value="alice")
    # Access tokens without a session may have been issued since.
    assert (gone.already_revoked, gone.reach.sessions) == (True, 0)
    assert gone.tokens_expire_time == pytest.approx(node.clock.now() + 600, abs=1)
    await node.issue()
    assert not (await preview(node, target=RevocationTarget.SUBJECT, value="alice")).already_revoked


async def test_unknown_session_and_key_are_named(node: Node[ManualClock]) -> None:
    node.subscribers.connect("api")
    session = await preview(
        node, target=RevocationTarget.SESSION, value="00000000-0000-4000-8000-000000000001"
    )
    key = await preview(node, target=RevocationTarget.KEY, value="no-key")
    for found in (session, key):
        assert (found.tokens_expire_time, found.subscribers, len(found.warnings)) == (None, 0, 1)


async def test_expired_session_has_only_its_last_access_tokens(node: Node[ManualClock]) -> None:
    node.policy = Policy(idle_timeout=60)
    tokens = await node.issue()
    node.clock.elapsed += 61
    found = await preview(node, target=RevocationTarget.SESSION, value=tokens.session_id)
    assert found.reach.sessions == 0
    assert found.tokens_expire_time == pytest.approx(node.clock.now() + 3600, abs=1)
    assert "has expired" in found.warnings[0]


async def test_signing_key_in_use_is_a_warning(node: Node[ManualClock]) -> None:
    active = node.keyring.signer().key_id
    prepared = (await node.key_manager.prepare(SYSTEM, None)).key_id
    found = await preview(node, target=RevocationTarget.KEY, value=active)
    assert (found.target, found.reach.sessions) == (f"key {active}", 0)
    assert found.tokens_expire_time == pytest.approx(node.clock.now() + 600, abs=1)
    assert "the key signs now" in found.warnings[0]
    unused = await preview(node, target=RevocationTarget.KEY, value=prepared)
    assert (unused.tokens_expire_time, unused.warnings) == (None, [])
    await node.revoke(target=RevocationTarget.KEY, value=active)
    assert (await preview(node, target=RevocationTarget.KEY, value=active)).already_revoked


async def test_subscribers_of_all_nodes_are_counted(node: Node[ManualClock]) -> None:
    node.subscribers.connect("api")
    await node.stores.nodes.report(NodeReport("other", 4, [(0, 4)], []))
    await node.issue()
    assert (await preview(node, target=RevocationTarget.SUBJECT, value="alice")).subscribers == 5
    active = node.keyring.signer().key_id
    assert (await preview(node, target=RevocationTarget.KEY, value=active)).subscribers == 5


@pytest.mark.parametrize(
    ("reach", "warned"),
    [
        (SessionReach(sessions=999, top_clients=[("web", 999)]), []),
        (SessionReach(sessions=1000, top_clients=[("web", 1000)]), ["client 'web' loses 1,000 sessions"]),
        (SessionReach(sessions=5, accuracy=Accuracy.AT_LEAST), ["lower bound"]),
        (SessionReach(sessions=5, accuracy=Accuracy.ESTIMATE), ["an estimate"]),
    ],
)
async def test_wide_reach_is_a_warning(
    node: Node[ManualClock], reach: SessionReach, warned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reached(*_: Any, **__: Any) -> SessionReach:
        return reach

    monkeypatch.setattr(node.stores.selections, "reach", reached)
    found = await preview(node, target=RevocationTarget.CLIENT, value="web")
    assert len(found.warnings) == len(warned)
    for text, part in zip(found.warnings, warned, strict=True):
        assert part in text
    assert previews._MANY == 1000


async def test_wrong_targets_are_refused_as_by_revoke_token(node: Node[ManualClock]) -> None:
    for command in (
        {},
        {"target": RevocationTarget.SESSION, "value": "x"},
        {"target": RevocationTarget.SUBJECT},
    ):
        with pytest.raises(InvalidRequestError):
            await preview(node, **command)
