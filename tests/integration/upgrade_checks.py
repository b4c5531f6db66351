"""What must hold after an upgrade under load."""

from __future__ import annotations

from typing import Any

from tests.integration.calls import ACCESS, STRONG, refused, sequence
from tests.integration.upgrading import BOUND, Load
from tests.support.deadline import eventually
from token_service.stores.sql import migrations
from token_service.urls import DatabaseUrl
from token_service.v1 import key_service_pb2


async def check_everything(load: Load) -> None:
    """Check revocations, chains, the recorded sessions and keys, the log and the schema. The load has stopped."""
    await check_revocations(load)
    for token in load.chains.values():
        refreshed = await load.api.refresh(token)
        assert await load.api.why(refreshed.access_token, consistency=STRONG) == ""
    await check_record(load)
    await check_log(load)
    url = DatabaseUrl.parse(load.site.database_url)
    assert await migrations.current_revision(url) == migrations.HEAD


async def check_side_by_side(load: Load) -> None:
    """Check that each of two nodes knows at once what the other one did."""
    for one, other in (load.direct, load.direct[::-1]):
        issued = await one.issue("shared")
        assert await other.why(issued.access_token) == ""
        refreshed = await other.refresh(issued.refresh_token)
        again = await one.refresh(refreshed.refresh_token)
        await one.revoke(session_id=issued.session_id)
        assert await other.why(again.access_token, consistency=STRONG) == "REVOKED"
        short = await one.issue("short", token_types=[ACCESS])
        await other.revoke(token=short.access_token)
        assert await one.why(short.access_token, consistency=STRONG) == "REVOKED"


async def check_revocations(load: Load) -> None:
    """Check that no acknowledged revocation was lost: not at a node, and not at a validator after its bound."""
    assert load.revoked
    for token in load.revoked.values():
        await load.refused_by_every_node(token)
    for watcher in load.watchers:
        report = await watcher.report()
        late = {
            number: report["accepted"][str(number)] - at
            for number, at in load.acknowledged.items()
            if report["accepted"].get(str(number), 0.0) > at + BOUND
        }
        assert not late, f"accepted more than {BOUND} s after the revocation, in seconds: {late}"
        assert set(report["reasons"]) <= {"REVOKED"}


async def check_record(load: Load) -> None:
    """Check the tokens, sessions and keys that the database had before."""
    record = load.site.record
    active, revoked = record["active"], record["revoked"]
    for api in load.direct:
        for name, tokens in active.items():
            for kind in {"access", "id", "session"} & set(tokens):
                assert await api.why(tokens[kind], consistency=STRONG) == "", (name, kind)
        for name, tokens in revoked.items():
            for kind in {"access", "id", "session"} & set(tokens):
                assert await api.why(tokens[kind], consistency=STRONG) == "REVOKED", (name, kind)
        listed = await api.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest(), timeout=60)
        assert set(record["keys"]) <= {key.key_id for key in listed.signing_keys}
    # The retired key of the record signed the first token, the active one the second.
    await load.judged("accepted", {-1: active["kept"]["access"], -2: active["next key"]["access"]})
    await load.judged("refused", {-3 - n: each["access"] for n, each in enumerate(revoked.values())})
    device = {"device_id": "phone-1"}
    first = await load.api.refresh(active["kept"]["refresh"], **device)
    second = await load.api.refresh(first.refresh_token, **device)
    assert await load.api.why(second.access_token, consistency=STRONG) == ""
    newest = await load.api.refresh(active["renewed"]["refresh"])
    assert (await refused(load.api.refresh(record["superseded"]))).reason == "REFRESH_TOKEN_REUSED"
    assert await load.api.why(newest.access_token, consistency=STRONG) == "REVOKED"


async def check_log(load: Load) -> None:
    """Check that all subscribers, of both versions, confirm a last revocation, and have seen every entry until it."""
    subscribers = len(load.trails) + len(load.watchers)

    async def confirmed_by_all() -> Any:
        # A subscriber of the node that was replaced last may not be back yet.
        answer = await load.api.revoke(subject="last", wait=60)
        return answer if answer.subscribers_connected == subscribers else None

    last = await eventually(confirmed_by_all)
    assert last.subscribers_applied == subscribers
    assert last.subscribers_silent == 0
    epoch, _, first = load.site.record["head"].rpartition(":")
    assert last.cursor.startswith(f"{epoch}:")
    for trail in load.trails:
        await trail.stop()
        assert trail.sequences == [*range(int(first) + 1, sequence(last.cursor) + 1)]
    for watcher in load.watchers:
        assert (await watcher.report())["resets"] == [1]
