"""Sessions in any order of events, compared with a model.

The model has no stores, statements or caches. It has rows and a log. For each call it predicts the returned tokens
or the error, and after each step which of all tokens ever issued are valid.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, event, note, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support.memory_stores import MemoryStores
from tests.unit.core.jwts import claims_of, header_of, unpad
from tests.unit.core.node import ISSUER, Intercepted, Node, raising
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.issuing.commands import ISSUABLE, IssuedTokens
from token_service.core.leases import Lease
from token_service.core.maintenance.janitor import Janitor
from token_service.core.policies.policy import Policy, ReuseResponse
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.signals import SIGNALS
from token_service.core.sessions.store import SessionFilter
from token_service.core.validation.introspector import OpaqueClaims
from token_service.errors import (
    InvalidReason,
    RefreshTokenExpiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    RequestIdReusedError,
    ScopeExceededError,
    ServiceError,
    SessionIdleError,
    SessionNotActiveError,
    SessionNotFoundError,
    SessionRevokedError,
    StoreUnavailableError,
    TooManyRetriesError,
    WrongClientError,
    WrongDeviceError,
)
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.revocation import MAX_LEEWAY, RevocationTarget

T = TypeVar("T")

SUBJECTS = ("alice", "bob")
CLIENTS = ("web", "app")
RETENTION = 100.0
USE_SHARE = 20

ACCESS_AND_REFRESH = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})

seeds = st.integers(0, 2**64 - 1)


def a_policy(luck: Random) -> Policy:
    return Policy(
        rotate=luck.random() < 0.8,
        grace_period=luck.choice([5, 5, 10, 10, 0]),
        max_retries=luck.choice([3, 3, 1, 0]),
        reuse_response=luck.choice(list(ReuseResponse)),
        idle_timeout=luck.choice([60, 200]),
        access_token_ttl=luck.choice([20, 60]),
        id_token_ttl=luck.choice([10, 60]),
        refresh_token_ttl=luck.choice([150, 1000]),
    )


def a_login(luck: Random) -> dict[str, Any]:
    return {
        "subject": luck.choice(SUBJECTS),
        "client_id": luck.choice(CLIENTS),
        "device_id": luck.choice(["", "phone"]),
        "kinds": frozenset(
            luck.choice(
                [ACCESS_AND_REFRESH, ACCESS_AND_REFRESH, ISSUABLE, [TokenKind.SESSION], [TokenKind.ACCESS]]
            )
        ),
        "scopes": luck.choice([(), ("read", "write")]),
        "audience": luck.choice([(), ("api", "files")]),
        "access_token_ttl": luck.choice([None, None, 10.0]),
        "refresh_token_ttl": luck.choice([None, None, 50.0]),
        "request_id": luck.choice(["", "", "r-1"]),
    }


def any_row(luck: Random) -> dict[str, Any]:
    return {"which": luck.randrange(10**6)}


MOVES: list[tuple[int, str, Callable[[Random], dict[str, Any]]]] = [
    (1, "change_policy", lambda luck: {"policy": a_policy(luck)}),
    (3, "time_passes", lambda luck: {"seconds": luck.choice([0.25, 1, 1, 4.75, 5, 9.75, 10, 30])}),
    (
        2,
        "time_passes_until",
        lambda luck: (
            any_row(luck)
            | {
                "moment": luck.choice(["grace", "grace", "idle", "idle", "absolute", "access"]),
                "off": luck.choice([-0.25, 0, 0.25]),
            }
        ),
    ),
    (1, "the_janitor_comes", lambda luck: {"hours": luck.choice([0, 0, 0.05, 1.2])}),
    (3, "issue", lambda luck: {"login": a_login(luck)}),
    (6, "refresh", lambda luck: any_row(luck) | {"lose": luck.random() < 0.2}),
    (
        6,
        "refresh_with_an_older_token",
        lambda luck: any_row(luck) | {"back": luck.choice([1, 1, 1, 2, 3]), "lose": luck.random() < 0.2},
    ),
    (
        3,
        "refresh_otherwise",
        lambda luck: (
            any_row(luck)
            | {
                "back": luck.randrange(3),
                "what": luck.choice(["client", "device", "wide", "narrow", "same"]),
            }
        ),
    ),
    (2, "refresh_at_once", lambda luck: any_row(luck) | {"callers": luck.randint(2, 6)}),
    (1, "refresh_while_it_is_revoked", any_row),
    (
        1,
        "present_a_forgery",
        lambda luck: any_row(luck) | {"at": luck.randrange(999), "bit": luck.randrange(8)},
    ),
    (
        1,
        "revoke_a_session",
        lambda luck: any_row(luck) | {"by": luck.choice(["id", "refresh token", "session token"])},
    ),
    (1, "revoke_a_jwt", lambda luck: any_row(luck) | {"by_id": luck.random() < 0.5}),
    (1, "revoke_many", lambda luck: {"kind": luck.choice(MANY), "which": luck.randrange(2)}),
    (2, "use_a_session_token", any_row),
    (1, "extend_a_session", lambda luck: any_row(luck) | {"span": luck.choice([None, 5.0, 30.0, 10_000.0])}),
]
MANY: list[RevocationTarget] = [
    RevocationTarget.SUBJECT,
    RevocationTarget.CLIENT,
    RevocationTarget.EVERYTHING,
    RevocationTarget.KEY,
]


@dataclass
class Row:
    """A session of the model."""

    id: str
    subject: str
    client: str
    device: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    revision: int
    create: float
    absolute: float
    idle: float
    kinds: frozenset[TokenKind]
    access_ttl: float | None
    lifetime: float
    session_token: str
    chain: list[str | None]
    """The refresh tokens by generation. None: the answer with the token was lost."""
    rotate: float
    last_use: float
    retries: int = 0
    revoked: float | None = None
    request: tuple[str, str] | None = None
    purged: bool = False

    @property
    def generation(self) -> int:
        return len(self.chain) - 1


@dataclass
class Jwt:
    """A JWT of the model."""

    text: str
    kind: TokenKind
    id: str
    session: str
    subject: str
    client: str
    revision: int
    expire: int
    key: str


@dataclass
class Model:
    """The predicted state: time, policy, sessions and log."""

    now: float
    policy: Policy
    head: int = 0
    floors: dict[tuple[RevocationTarget, str], int] = field(default_factory=dict)
    dead_tokens: set[str] = field(default_factory=set)
    dead_sessions: set[str] = field(default_factory=set)
    dead_keys: set[str] = field(default_factory=set)

    def floor(self, subject: str, client: str) -> int:
        return max(
            self.floors.get((RevocationTarget.SUBJECT, subject), 0),
            self.floors.get((RevocationTarget.CLIENT, client), 0),
            self.floors.get((RevocationTarget.EVERYTHING, ""), 0),
        )

    def raise_floor(self, target: RevocationTarget, value: str) -> None:
        self.head += 1
        self.floors[target, value] = self.head

    def end_session(self, row: Row) -> None:
        if not row.purged and row.revoked is None:
            row.revoked = self.now
            self.dead_sessions.add(row.id)
            self.head += 1

    def is_revoked(self, row: Row) -> bool:
        return row.revoked is not None or self.floor(row.subject, row.client) > row.revision

    def is_live(self, row: Row) -> bool:
        timely = row.absolute > self.now and row.idle > self.now
        return not row.purged and timely and not self.is_revoked(row)

    def slide(self, row: Row) -> None:
        row.last_use = self.now
        row.idle = min(self.now + self.policy.idle_timeout, row.absolute)

    def verdict_of_refresh(
        self, row: Row, generation: int, client: str, device: str, scopes: tuple[str, ...]
    ) -> type[ServiceError] | str:
        """Return the outcome of presenting a token of a generation: an error, or "rotate", "keep" or "repeat"."""
        verdict = self.verdict_of_token(row, generation, client, device)
        if isinstance(verdict, str) and not set(scopes) <= set(row.scopes):
            return ScopeExceededError
        return verdict

    def verdict_of_token(
        self, row: Row, generation: int, client: str, device: str
    ) -> type[ServiceError] | str:
        if row.purged:
            return RefreshTokenInvalidError
        if client != row.client:
            return WrongClientError
        if row.device not in {"", device}:
            return WrongDeviceError
        if self.is_revoked(row):
            return SessionRevokedError
        if row.absolute <= self.now:
            return RefreshTokenExpiredError
        if row.idle <= self.now:
            return SessionIdleError
        if generation == row.generation:
            return "rotate" if self.policy.rotate else "keep"
        in_grace = self.now < row.rotate + self.policy.grace_period
        refused = 0 < self.policy.max_retries <= row.retries
        if generation == row.generation - 1 and (in_grace or refused):
            return "repeat" if row.retries < self.policy.max_retries else TooManyRetriesError
        return RefreshTokenReusedError

    def verdict_of_jwt(self, jwt: Jwt) -> InvalidReason | None:
        if jwt.key in self.dead_keys:
            return InvalidReason.UNKNOWN_KEY
        if jwt.expire <= self.now:
            return InvalidReason.EXPIRED
        if jwt.id in self.dead_tokens or jwt.session in self.dead_sessions:
            return InvalidReason.REVOKED
        return InvalidReason.REVOKED if self.floor(jwt.subject, jwt.client) > jwt.revision else None

    def verdict_of_opaque(self, row: Row, generation: int | None) -> InvalidReason | None:
        """Return the reason of a refusal. `generation` is that of a refresh token; None: the session token."""
        if row.purged:
            return InvalidReason.UNKNOWN_SESSION
        if self.is_revoked(row):
            return InvalidReason.REVOKED
        if not self.is_live(row):
            return InvalidReason.EXPIRED
        if generation is not None and generation < row.generation:
            return InvalidReason.SUPERSEDED
        return None


class Unsteady:
    """A session store that can yield to other tasks around each call, and can lose the answer of a completed call."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.lose = False
        self.racing = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.racing:
                await asyncio.sleep(0)
            result = await method(*args, **kwargs)
            if self.racing:
                await asyncio.sleep(0)
            if self.lose and result is not None and name in {"rotate", "retry", "use"}:
                raise StoreUnavailableError
            return result

        return call


ORIGINS = (
    NO_ORIGIN,
    Origin("192.0.2.1", "Firefox/1"),
    Origin("192.0.2.1", "Firefox/2"),
    Origin("2001:db8::1"),
)


class SessionMachine(RuleBasedStateMachine):
    """Drives a node and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.stores = MemoryStores(self.clock)
        self.unsteady = Unsteady(self.stores.sessions)
        self.log = Intercepted(self.stores.log)
        self.node = Node(
            self.clock, stores=self.stores, sessions=self.unsteady, log=self.log, max_staleness=1e12
        )
        self.model = Model(self.clock.now(), self.node.policy)
        self.rows: list[Row] = []
        self.jwts: list[Jwt] = []
        self.do(self.node.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    # --- Time and policy ---------------------------------------------------------------------------------------------------

    @initialize(seed=seeds)
    def begin(self, seed: int) -> None:
        luck = Random(seed)
        self.node.refresher._signing_may_fail = luck.random() < 0.4  # the error would otherwise go unnoticed
        self.change_policy(a_policy(luck))
        if luck.random() < 0.5:  # judged uses that no rule refuses have the same outcome
            signals = tuple(signal() for signal in SIGNALS)
            self.node.core.risk.replace(RiskRules(signals, {"default": {}}))
        self.origins = luck
        for _ in range(3):
            self.issue(a_login(luck) | {"kinds": ACCESS_AND_REFRESH})

    # One rule with a seed. With one rule for each step and separately drawn arguments, hypothesis spends nearly
    # all histories on the same few steps, most of them with ended sessions.
    @rule(seed=seeds)
    def step(self, seed: int) -> None:
        luck = Random(seed)
        weights = [weight for weight, _, _ in MOVES]
        _, name, arguments = luck.choices(MOVES, weights)[0]
        if not any(map(self.model.is_live, self.rows)) and luck.random() < 0.8:
            self.do_move("issue", {"login": a_login(luck) | {"kinds": ACCESS_AND_REFRESH}})
        else:
            self.do_move(name, arguments(luck))

    def do_move(self, name: str, arguments: dict[str, Any]) -> None:
        note(f"{name}: {arguments}")
        getattr(self, name)(**arguments)

    def change_policy(self, policy: Policy) -> None:
        self.model.policy = self.node.policy = policy

    def wait(self, seconds: float) -> None:
        self.clock.elapsed += seconds
        self.model.now = self.clock.now()

    def time_passes(self, seconds: float) -> None:
        self.wait(seconds)

    def time_passes_until(self, which: int, moment: str, off: float) -> None:
        row = self.row(which)
        moments = {
            "grace": row.rotate + self.model.policy.grace_period,
            "idle": row.idle,
            "absolute": row.absolute,
            "access": float(self.jwts[which % len(self.jwts)].expire),
        }
        self.wait(max(0.0, moments[moment] + off - self.model.now))

    def the_janitor_comes(self, hours: float) -> None:
        self.wait(hours * 3600)
        janitor = Janitor(
            self.stores.sessions,
            self.stores.log,
            self.stores.device_requests,
            Lease(self.stores.leases, "janitor", "node-1"),
            SteadyTime(self.clock),
            self.node.audit,
            interval=60,
            retention=RETENTION,
        )
        self.do(janitor.sweep())
        self.node.replica.revocations.drop_expired(self.clock.now())
        before = self.model.now - RETENTION
        for row in self.rows:
            if min(row.idle, row.absolute) < before or (row.revoked is not None and row.revoked < before):
                row.purged = True
                row.request = None

    # --- Issue -------------------------------------------------------------------------------------------------------------

    def issue(self, login: dict[str, Any]) -> None:
        subject, client, device = login["subject"], login["client_id"], login["device_id"]
        kinds, scopes, audience = login["kinds"], login["scopes"], login["audience"]
        access_ttl, lifetime = login["access_token_ttl"], login["refresh_token_ttl"]
        request = login["request_id"]
        call = self.node.issue(**login)
        now, policy = self.model.now, self.model.policy
        span = min(policy.refresh_token_ttl, lifetime or policy.refresh_token_ttl)
        with_session = bool(kinds & {TokenKind.REFRESH, TokenKind.SESSION})
        key = (client, request)
        known = next((row for row in self.rows if row.request == key), None) if request else None
        if known is not None and with_session:
            same = (
                known.subject,
                known.device,
                known.kinds - {TokenKind.ACCESS},
                known.scopes,
                known.audience,
                known.access_ttl,
                known.lifetime,
            ) == (
                subject,
                device,
                kinds - {TokenKind.ACCESS},
                scopes,
                audience or (ISSUER,),
                access_ttl,
                span,
            )
            if not same or known.generation > 0 or not self.model.is_live(known):
                self.expect_error(call, RequestIdReusedError)
                return
            tokens = self.do(call)
            assert tokens.session_id == known.id
            assert (tokens.refresh_token or None, tokens.session_token) == (
                known.chain[0],
                known.session_token,
            )
            self.note_jwts(tokens, known.subject, known.client, known.revision, access_ttl)
            return
        tokens = self.do(call)
        if with_session:
            assert tokens.session_id not in {row.id for row in self.rows}
            self.rows.append(
                Row(
                    id=tokens.session_id,
                    subject=subject,
                    client=client,
                    device=device,
                    scopes=scopes,
                    audience=audience or (ISSUER,),
                    revision=self.model.head,
                    create=now,
                    absolute=now + span,
                    idle=min(now + policy.idle_timeout, now + span),
                    kinds=kinds,
                    access_ttl=access_ttl,
                    lifetime=span,
                    session_token=tokens.session_token,
                    chain=[tokens.refresh_token or None],
                    rotate=now,
                    last_use=now,
                    request=key if request else None,
                )
            )
        assert bool(tokens.refresh_token) is (TokenKind.REFRESH in kinds)
        assert bool(tokens.session_token) is (TokenKind.SESSION in kinds)
        self.note_jwts(tokens, subject, client, self.model.head, access_ttl)

    def note_jwts(
        self, tokens: IssuedTokens, subject: str, client: str, revision: int, access_ttl: float | None
    ) -> None:
        ttl = self.model.policy.access_token_ttl
        access_expire = int(self.model.now) + int(min(ttl, access_ttl if access_ttl is not None else ttl))
        id_expire = int(self.model.now) + self.model.policy.id_token_ttl
        for kind, text, expire in (
            (TokenKind.ACCESS, tokens.access_token, access_expire),
            (TokenKind.ID, tokens.id_token, id_expire),
        ):
            if text:
                claims = claims_of(text)
                assert (claims["sub"], claims["exp"], claims["rev"]) == (subject, expire, revision)
                assert claims.get("sid", "") == tokens.session_id
                key = header_of(text)["kid"]
                assert key not in self.model.dead_keys
                self.jwts.append(
                    Jwt(text, kind, claims["jti"], tokens.session_id, subject, client, revision, expire, key)
                )

    # --- Refresh -----------------------------------------------------------------------------------------------------------

    def row(self, which: int, generation: int = -1) -> Row:
        """Return a session with at least `generation` rotations, preferably an active one.

        Without the preference, nearly all steps would act on ended sessions.
        """
        rows = [row for row in self.rows if row.generation >= generation] or self.rows
        live = [row for row in rows if self.model.is_live(row)]
        chosen = live if live and which % 8 else rows
        return chosen[-1 - (which // 8) % len(chosen)]

    def refreshable(self, which: int, generation: int = 0) -> Row:
        rows = self.rows
        self.rows = [row for row in rows if TokenKind.REFRESH in row.kinds]
        try:
            return self.row(which, generation)
        finally:
            self.rows = rows

    def known(self, row: Row, generation: int) -> int:
        """Return the generation, or the nearest older one whose token was not lost."""
        while row.chain[generation] is None:
            generation -= 1
        return generation

    def refresh(self, which: int, *, lose: bool) -> None:
        row = self.refreshable(which)
        self.present(row, self.known(row, row.generation), row.client, row.device, lose=lose)

    def refresh_with_an_older_token(self, which: int, back: int, *, lose: bool) -> None:
        row = self.refreshable(which, back)
        generation = self.known(row, max(0, row.generation - back))
        self.present(row, generation, row.client, row.device, lose=lose)

    def refresh_otherwise(self, which: int, back: int, what: str) -> None:
        row = self.refreshable(which)
        client = row.client if what != "client" else next(name for name in CLIENTS if name != row.client)
        device = row.device if what != "device" else "tablet"
        scopes = {"wide": (*row.scopes, "admin"), "narrow": row.scopes[:1], "same": row.scopes}.get(what, ())
        self.present(row, self.known(row, max(0, row.generation - back)), client, device, scopes)

    def present(
        self,
        row: Row,
        generation: int,
        client: str,
        device: str,
        scopes: tuple[str, ...] = (),
        *,
        lose: bool = False,
    ) -> None:
        model = self.model
        verdict = model.verdict_of_refresh(row, generation, client, device, scopes)
        event(f"refresh: {verdict if isinstance(verdict, str) else verdict.__name__}")
        text = row.chain[generation]
        assert text is not None
        origin = self.origins.choice(ORIGINS)
        call = self.node.refresh(text, client, device_id=device, scopes=scopes, client_context=origin)
        if lose:
            self.unsteady.lose = True
            self.log.after["append"] = raising(StoreUnavailableError())
        try:
            if isinstance(verdict, type):
                lost = lose and verdict is RefreshTokenReusedError
                self.expect_error(call, StoreUnavailableError if lost else verdict)
                if verdict is RefreshTokenReusedError:
                    model.end_session(row)
                    if model.policy.reuse_response is ReuseResponse.SUBJECT:
                        model.raise_floor(RevocationTarget.SUBJECT, row.subject)
                return
            tokens: IssuedTokens | None = None
            if lose:
                self.expect_error(call, StoreUnavailableError)
            else:
                tokens = self.do(call)
        finally:
            self.unsteady.lose = False
            self.log.after.clear()
            self.do(self.node.tailer._look())
        if verdict == "rotate":
            row.chain.append(None)
            row.rotate, row.retries = model.now, 0
            model.slide(row)
        elif verdict == "keep":
            model.slide(row)
        else:
            row.retries += 1
        if tokens is not None:
            self.note_refreshed(row, tokens, scopes)

    def note_refreshed(self, row: Row, tokens: IssuedTokens, scopes: tuple[str, ...]) -> None:
        if row.chain[-1] is None:
            assert tokens.refresh_token not in row.chain
            row.chain[-1] = tokens.refresh_token
        assert tokens.refresh_token == row.chain[-1], "a second live successor"
        assert tokens.refresh_token_expire_time == row.idle
        assert (tokens.session_id, tokens.session_token) == (row.id, "")
        assert tokens.scopes == (scopes or row.scopes)
        assert claims_of(tokens.access_token).get("scope", "") == " ".join(scopes or row.scopes)
        assert bool(tokens.id_token) is (TokenKind.ID in row.kinds)
        self.note_jwts(tokens, row.subject, row.client, self.model.head, row.access_ttl)

    def refresh_at_once(self, which: int, callers: int) -> None:
        row = self.refreshable(which)
        model, policy = self.model, self.model.policy
        text = row.chain[-1]
        if (
            text is None
            or model.verdict_of_refresh(row, row.generation, row.client, row.device, ()) != "rotate"
        ):
            return
        if policy.grace_period == 0:
            return

        async def race() -> list[IssuedTokens | BaseException]:
            self.unsteady.racing = True
            calls = (
                self.node.refresh(
                    text, row.client, device_id=row.device, client_context=self.origins.choice(ORIGINS)
                )
                for _ in range(callers)
            )
            try:
                return await asyncio.gather(*calls, return_exceptions=True)
            finally:
                self.unsteady.racing = False

        results = self.do(race())
        served = [result for result in results if isinstance(result, IssuedTokens)]
        assert len(served) == 1 + min(callers - 1, policy.max_retries)
        assert all(isinstance(r, TooManyRetriesError) for r in results if not isinstance(r, IssuedTokens))
        row.chain.append(None)
        row.rotate, row.retries = model.now, len(served) - 1
        model.slide(row)
        for tokens in served:
            self.note_refreshed(row, tokens, ())

    def refresh_while_it_is_revoked(self, which: int) -> None:
        row = self.refreshable(which)
        model = self.model
        text = row.chain[-1]
        if (
            text is None
            or model.verdict_of_refresh(row, row.generation, row.client, row.device, ()) != "rotate"
        ):
            return

        async def race() -> Sequence[Any]:
            self.unsteady.racing = True
            try:
                return await asyncio.gather(
                    self.node.refresh(text, row.client, device_id=row.device),
                    self.node.revoke(target=RevocationTarget.SESSION, value=row.id),
                    return_exceptions=True,
                )
            finally:
                self.unsteady.racing = False

        tokens, _ = self.do(race())
        if isinstance(tokens, IssuedTokens):
            row.chain.append(tokens.refresh_token)
            row.rotate, row.retries = model.now, 0
            model.slide(row)
            self.note_jwts(
                tokens, row.subject, row.client, claims_of(tokens.access_token)["rev"], row.access_ttl
            )
        else:
            assert isinstance(tokens, SessionRevokedError)
        model.end_session(row)

    def present_a_forgery(self, which: int, at: int, bit: int) -> None:
        row = self.refreshable(which)
        text = row.chain[0]
        assert text is not None
        data = bytearray(unpad(text[3:]))
        data[at % len(data)] ^= 1 << bit
        forged = text[:3] + base64.urlsafe_b64encode(bytes(data)).rstrip(b"=").decode()
        self.expect_error(
            self.node.refresh(forged, row.client, device_id=row.device), RefreshTokenInvalidError
        )
        assert self.do(self.node.validate(forged)).reason is InvalidReason.BAD_SIGNATURE
        self.do(self.node.revoke(token=forged))
        if row.session_token:
            self.expect_error(self.node.refresh(row.session_token, row.client), RefreshTokenInvalidError)

    # --- Revoke ------------------------------------------------------------------------------------------------------------

    def revoke_a_session(self, which: int, by: str) -> None:
        row = self.row(which)
        texts = [text for text in row.chain if text is not None]
        if by == "refresh token" and texts:
            self.revoke(token=texts[which % len(texts)])
        elif by == "session token" and row.session_token:
            self.revoke(token=row.session_token)
        else:
            self.revoke(target=RevocationTarget.SESSION, value=row.id)
        self.model.end_session(row)

    def revoke_a_jwt(self, which: int, *, by_id: bool) -> None:
        jwt = self.jwts[-1 - which % min(8, len(self.jwts))]
        model = self.model
        if by_id:
            self.revoke(target=RevocationTarget.TOKEN_ID, value=jwt.id)
        else:
            self.revoke(token=jwt.text)
        if by_id or (jwt.key not in model.dead_keys and jwt.expire + MAX_LEEWAY > model.now):
            if by_id or jwt.id not in model.dead_tokens:
                model.head += 1  # a JWT that is presented again adds nothing
            model.dead_tokens.add(jwt.id)

    def revoke_many(self, kind: RevocationTarget, which: int) -> None:
        if kind is RevocationTarget.KEY:
            key = self.node.keyring.signer().key_id
            self.revoke(target=kind, value=key)
            self.model.dead_keys.add(key)
            self.model.head += 1
            self.revoke(target=kind, value=key)  # a key is revoked once
            return
        names = {RevocationTarget.SUBJECT: SUBJECTS, RevocationTarget.CLIENT: CLIENTS}
        value = names[kind][which] if kind in names else ""
        self.revoke(target=kind, value=value)
        self.model.raise_floor(kind, value)

    def revoke(self, **command: Any) -> None:
        self.do(self.node.revoke(**command))
        self.do(self.node.tailer._look())

    # --- Use ---------------------------------------------------------------------------------------------------------------

    def use_a_session_token(self, which: int) -> None:
        row = self.row(which)
        if not row.session_token:
            return
        model = self.model
        verdict = model.verdict_of_opaque(row, None)
        answer = self.do(self.node.validate(row.session_token))
        assert answer.reason is verdict
        if verdict is None:
            if model.now - row.last_use >= model.policy.idle_timeout / USE_SHARE:
                model.slide(row)
            assert isinstance(answer.claims, OpaqueClaims)
            assert answer.claims.session.idle_expire_time == row.idle

    def extend_a_session(self, which: int, span: float | None) -> None:
        row = self.row(which)
        model = self.model
        call = self.node.sessions.extend(Caller.system(), row.id, row.client, span, model.now)
        if row.purged:
            self.expect_error(call, SessionNotFoundError)
        elif not model.is_live(row):
            self.expect_error(call, SessionNotActiveError)
        else:
            longest = model.policy.idle_timeout
            row.idle = max(row.idle, min(model.now + min(span or longest, longest), row.absolute))
            row.last_use = model.now
            assert self.do(call).idle_expire_time == row.idle

    # --- At the end --------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            self.a_node_that_joins_comes_to_the_same_verdicts()
            self.lists_have_the_sessions()
            self.the_audit_log_has_no_token()
        finally:
            self.runner.close()

    def a_node_that_joins_comes_to_the_same_verdicts(self) -> None:
        """Compare the verdicts of a new node, which has only the log, with those of the model."""

        async def verdicts() -> list[InvalidReason | None]:
            node = await Node(self.clock, stores=self.stores, node_id="node-2", seed=2).start()
            return [(await node.validate(jwt.text)).reason for jwt in self.jwts]

        assert self.do(verdicts()) == [self.model.verdict_of_jwt(jwt) for jwt in self.jwts]

    def lists_have_the_sessions(self) -> None:
        for live_at in (None, self.model.now):
            for subject in SUBJECTS:
                found: list[str] = []
                page = ""
                while page or not found:
                    answer = self.do(
                        self.node.sessions.list(
                            Caller.system(),
                            SessionFilter.SUBJECT,
                            subject,
                            live_at=live_at,
                            page_size=2,
                            page_token=page,
                        )
                    )
                    found += [str(details.session.id) for details in answer.sessions]
                    page = answer.next_page_token
                    if not page:
                        break
                assert len(found) == len(set(found))
                assert set(found) == {
                    row.id
                    for row in self.rows
                    if row.subject == subject
                    and not row.purged
                    and (live_at is None or self.model.is_live(row))
                }

    def the_audit_log_has_no_token(self) -> None:
        tokens = [text for row in self.rows for text in (*row.chain, row.session_token) if text]
        tokens += [jwt.text for jwt in self.jwts]
        said = repr(self.node.audit.events)
        assert not any(token in said for token in tokens)

    # --- Invariants ---------------------------------------------------------------------------------------------------

    @invariant()
    def every_jwt_is_as_good_as_the_model_says(self) -> None:
        for jwt in self.jwts[-20:]:
            answer = self.do(self.node.validate(jwt.text))
            assert answer.reason is self.model.verdict_of_jwt(jwt), jwt
            if answer.reason is None:
                assert isinstance(answer.claims, VerifiedClaims)
                assert (answer.claims.kind, answer.claims.token_id) == (jwt.kind, jwt.id)

    @invariant()
    def only_the_last_refresh_token_of_a_live_session_is_good(self) -> None:
        for row in self.rows[-8:]:
            for generation, text in list(enumerate(row.chain))[-4:]:
                if text is not None:
                    answer = self.do(self.node.validate(text))
                    assert answer.reason is self.model.verdict_of_opaque(row, generation)

    @invariant()
    def there_is_one_row_a_session_and_one_entry_a_revocation(self) -> None:
        stored = self.stores.sessions._state.sessions
        assert {str(key) for key in stored} == {row.id for row in self.rows if not row.purged}
        assert self.do(self.stores.log.head()).sequence == self.model.head
        assert self.node.replica.applied == self.model.head
        for row in self.rows:
            if row.chain[-1] is not None and not row.purged:
                secret = unpad(row.chain[-1][3:])[23:55]
                session = next(session for key, session in stored.items() if str(key) == row.id)
                assert session.refresh_hash == hashlib.sha256(secret).digest()
                assert session.generation == row.generation

    def expect_error(self, call: Coroutine[Any, Any, Any], error: type[ServiceError]) -> None:
        with pytest.raises(ServiceError) as raised:
            self.do(call)
        assert raised.type is error, raised.value


pytestmark = pytest.mark.timeout(600)  # time to shrink a failing history; a passing run takes seconds

SessionMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSessions = SessionMachine.TestCase
