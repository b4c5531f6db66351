"""The load: sessions that are begun, refreshed, extended, validated and revoked, and the answers.

`python -m tests.faults.campaign.load PLAN`. An intended call is recorded before it is sent, and an acknowledgment
after the answer arrived. So the records of a killed load are never ambiguous.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any

from tests.faults.campaign.calls import Calls, Refused
from tests.faults.campaign.history import Journal, clock
from tests.faults.campaign.plan import AUDIENCE, Plan
from token_service.v1 import (
    key_service_pb2 as keys_pb,
    session_service_pb2 as sessions_pb,
    token_service_pb2 as pb,
)

_CLIENTS = 6
_SUBJECTS = 50
_NUMBERS = 1_000_000
"""Token numbers reserved for each run of the load. A restarted load uses other numbers."""


@dataclass
class Session:
    """A session as its owner sees it."""

    id: str
    subject: str
    client: str
    refresh_token: str
    tokens: list[tuple[int, str, str]] = field(default_factory=list)
    """Number, text and id of its access tokens."""
    over: bool = False


class Load:
    """All activities of the load."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self._journal = journal
        self._calls = Calls(plan, journal)
        self._tokens = os.open(plan.tokens, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._next = plan.seed * _NUMBERS
        self._revocations = plan.seed * _NUMBERS
        self._run = plan.seed
        self._count = plan.count

    async def run(self) -> None:
        """Run without end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._live())
            group.create_task(self._every(2.0, self._present_an_old_token))
            group.create_task(self._every(3.0, self._issue_a_short_lived_token))
            group.create_task(self._every(6.0, self._revoke_a_client))
            group.create_task(self._every(9.0, self._replace_a_key))
            group.create_task(self._every(20.0, self._revoke_everything))

    async def _every(self, seconds: float, work: Any) -> None:
        while True:
            await asyncio.sleep(seconds * random.uniform(0.7, 1.3))
            try:
                await work()
            except Refused:
                continue  # the history has it

    async def _live(self) -> None:
        while True:
            try:
                session = await self._begin()
                for _ in range(random.randrange(1, 4)):
                    await asyncio.sleep(random.uniform(0.1, 0.6))
                    await self._step(session)
                if random.random() < 0.8:
                    await self._revoke_one_of(session)
            except Refused:
                await asyncio.sleep(0.1)  # the history has it; the revocation of another task hit the session

    async def _step(self, session: Session) -> None:
        chosen = random.random()
        if chosen < 0.5:
            await self._refresh(session)
        elif chosen < 0.65:
            began = clock()
            await self._calls.until_answered(
                "ExtendSession",
                sessions_pb.ExtendSessionRequest(session_id=session.id, client_id=session.client),
            )
            self._journal.write("extended", session=session.id, b=began, e=clock())
        else:
            number, token, _ = random.choice(session.tokens)
            await self._validate(number, token, strong=random.random() < 0.5)

    # --- beginning and continuing ---

    async def _begin(self, *, ttl: int = 0) -> Session:
        # Subjects repeat: a revocation of a subject must not hit later sessions of it.
        subject = f"user-{random.randrange(_SUBJECTS)}"
        client = f"client-{random.randrange(_CLIENTS)}"
        request = pb.IssueTokenRequest(
            subject=subject,
            client_id=client,
            audience=[AUDIENCE],
            scopes=["read"],
            request_id=os.urandom(12).hex(),  # a repeated call makes one session
        )
        if ttl:
            request.access_token_ttl.seconds = ttl
        began = clock()
        answer = await self._calls.until_answered("IssueToken", request)
        session = Session(answer.session_id, subject, client, answer.refresh_token)
        self._journal.write("begun", session=session.id, b=began, e=clock())
        self._learn(session, answer, began)
        return session

    def _learn(self, session: Session, answer: Any, began: float) -> None:
        self._next += 1
        number = self._next
        header, payload = (_part(answer.access_token, place) for place in (0, 1))
        self._journal.write(
            "token",
            n=number,
            session=session.id,
            subject=session.subject,
            client=session.client,
            id=answer.token_id,
            kid=header["kid"],
            exp=payload["exp"],
            b=began,
            e=clock(),
        )
        session.tokens.append((number, answer.access_token, answer.token_id))
        os.write(self._tokens, f"{number} {answer.access_token}\n".encode())

    async def _refresh(self, session: Session) -> None:
        """Refresh once; sometimes the answer is dropped, and sometimes two calls run concurrently."""
        old = session.refresh_token
        first = clock()
        self._journal.write("refreshing", session=session.id, old=_hash(old), at=first)
        chosen = random.random()
        if chosen < 0.25:
            # The answer is dropped: the owner does not know the outcome.
            await self._try_refresh(session, old, first, timeout=random.choice([0.002, 0.01, 2.0]))
        elif chosen < 0.5:
            await asyncio.gather(
                *(self._try_refresh(session, old, first, node=node) for node in range(len(self._calls.nodes)))
            )
        while (answer := await self._try_refresh(session, old, first)) is None:
            pass
        session.refresh_token = answer.refresh_token
        self._learn(session, answer, first)

    async def _try_refresh(self, session: Session, old: str, first: float, **how: Any) -> Any:
        request = pb.RefreshTokenRequest(refresh_token=old, client_id=session.client)
        began = clock()
        try:
            answer = await self._calls.once("RefreshToken", request, **how)
        except Refused as error:
            self._journal.write(
                "refresh_refused",
                session=session.id,
                old=_hash(old),
                first=first,
                b=began,
                e=clock(),
                reason=error.reason,
            )
            raise
        if answer is not None:
            self._journal.write(
                "refreshed",
                session=session.id,
                old=_hash(old),
                new=_hash(answer.refresh_token),
                first=first,
                b=began,
                e=clock(),
            )
        return answer

    async def _validate(self, number: int, token: str, *, strong: bool) -> None:
        consistency = pb.CONSISTENCY_STRONG if strong else pb.CONSISTENCY_LOCAL
        request = pb.ValidateTokenRequest(token=token, audience=AUDIENCE, consistency=consistency)
        began = clock()
        answer = await self._calls.once("ValidateToken", request)
        if answer is not None:
            self._journal.write(
                "validated",
                n=number,
                strong=strong,
                active=answer.active,
                reason=pb.InvalidReason.Name(answer.reason).removeprefix("INVALID_REASON_"),
                cursor=answer.cursor,
                b=began,
                e=clock(),
            )

    # --- revoking ---

    async def _revoke_one_of(self, session: Session) -> None:
        number, token, token_id = random.choice(session.tokens)
        target, value, about = random.choice(
            [
                ("token", token, ("token_id", token_id)),
                ("token", session.refresh_token, ("session_id", session.id)),
                ("token_id", token_id, ("token_id", token_id)),
                ("session_id", session.id, ("session_id", session.id)),
                ("subject", session.subject, ("subject", session.subject)),
            ]
        )
        await self._revoke(pb.RevokeTokenRequest(**{target: value}), *about, wait=random.random() < 0.1)  # type: ignore[arg-type]
        # At any node: an acknowledged revocation counts immediately for a strong validation everywhere.
        if about[0] != "token_id" or about[1] == token_id:
            await self._validate(number, token, strong=True)

    async def _revoke(self, request: Any, target: str, value: str, *, wait: bool = False) -> None:
        self._revocations += 1
        number = self._revocations
        if wait:
            request.wait.applied_by_all = True
            request.wait.timeout.seconds = 1
        self._journal.write("revoking", r=number, target=target, value=value, at=clock(), wall=time.time())
        answer, attempts = await self._calls.counted("RevokeToken", request)
        self._journal.write("revoked", r=number, at=clock(), cursor=answer.cursor, attempts=attempts)

    async def _revoke_a_client(self) -> None:
        client = f"client-{random.randrange(_CLIENTS)}"
        await self._revoke(pb.RevokeTokenRequest(client_id=client), "client_id", client)

    async def _revoke_everything(self) -> None:
        await self._revoke(pb.RevokeTokenRequest(everything=True), "everything", "")

    async def _replace_a_key(self) -> None:
        """Rotate the keys; in half of the calls also revoke the old key, and with it the tokens it signed."""
        listed = await self._calls.until_answered("ListSigningKeys", keys_pb.ListSigningKeysRequest())
        active = [key.key_id for key in listed.signing_keys if key.state == keys_pb.SIGNING_KEY_STATE_ACTIVE]
        prepared = await self._calls.until_answered(
            "PrepareSigningKey", keys_pb.PrepareSigningKeyRequest(algorithm="ES256")
        )
        await self._calls.until_answered(
            "ActivateSigningKey",
            keys_pb.ActivateSigningKeyRequest(key_id=prepared.signing_key.key_id, force=True),
        )
        self._journal.write("key_rotated", kid=prepared.signing_key.key_id, at=clock())
        if active and random.random() < 0.5:
            await self._revoke(pb.RevokeTokenRequest(key_id=active[0]), "key_id", active[0])

    async def _present_an_old_token(self) -> None:
        """Present a refresh token after its successor was used, as a thief would. This ends the session."""
        session = await self._begin()
        oldest = session.refresh_token
        await self._refresh(session)
        await self._refresh(session)
        self._revocations += 1
        number = self._revocations
        self._journal.write("revoking", r=number, target="session_id", value=session.id, at=clock())
        first = clock()
        try:
            while await self._try_refresh(session, oldest, first) is None:
                pass
        except Refused as error:
            if error.reason in {"REFRESH_TOKEN_REUSED", "SESSION_REVOKED"}:
                self._journal.write("revoked", r=number, at=clock(), cursor="", attempts=1)

    async def _issue_a_short_lived_token(self) -> None:
        """Issue an access token that expires while validators check it."""
        await self._begin(ttl=random.randrange(2, 6))


def _part(token: str, place: int) -> dict[str, Any]:
    text = token.split(".")[place]
    decoded: dict[str, Any] = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return decoded


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:16]


async def _main(plan: Plan) -> None:
    random.seed(plan.seed)
    await Load(plan, Journal(plan.root / f"{plan.name}.jsonl")).run()


if __name__ == "__main__":
    _plan = Plan.parse(sys.argv[1])
    asyncio.run(_main(_plan))
