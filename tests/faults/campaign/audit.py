"""The audit after the last fault: every acknowledged session, rotation and revocation must exist."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.faults.campaign.calls import Calls, Refused
from tests.faults.campaign.history import Record, clock
from tests.faults.campaign.judge import Judge
from tests.faults.campaign.site import Site
from token_service.v1 import session_service_pb2 as pb

_MOST = 3000
"""Number of sessions to audit, the newest ones."""
_CONCURRENT = 20


async def audit(site: Site, judge: Judge) -> None:
    """Ask for every session and record the lost ones."""
    calls = Calls(site.plan("audit", [node.grpc_address for node in site.nodes]), site.journal)
    first: dict[str, Record] = {}
    for token in judge.ledger.tokens.values():
        first.setdefault(token["session"], token)
    sessions = [first[session] for session in judge.sessions if session in first][-_MOST:]
    gate = asyncio.Semaphore(_CONCURRENT)

    async def look(token: Record) -> None:
        async with gate:
            problem = await _problem(calls, judge, token)
        site.journal.write("audited", session=token["session"], at=clock())
        if problem:
            site.journal.write("lost", at=clock(), text=f"session {token['session']}: {problem}")

    await asyncio.gather(*(look(token) for token in sessions))


async def _problem(calls: Calls, judge: Judge, token: Record) -> str:
    name = token["session"]
    try:
        answer: Any = await calls.until_answered("GetSession", pb.GetSessionRequest(session_id=name))
    except Refused as error:
        return f"{error.reason} though it was acknowledged"
    session = answer.session
    rotations = judge.refreshes.rotations.get(name, 0)
    if session.generation < rotations:
        return f"generation {session.generation} after {rotations} acknowledged rotations"
    ended = judge.ledger.session_must_be_ended(token)
    if ended is not None and session.state != pb.SESSION_STATE_REVOKED:
        return f"{pb.SessionState.Name(session.state)} though revocation {ended.number} ({ended.target}) was acknowledged"
    if session.state == pb.SESSION_STATE_REVOKED and not judge.ledger.may_have_ended(token, clock()):
        return "revoked though no revocation was sent"
    return ""
