"""Devices in any order of requests, logins, decisions, revocations and polls at two nodes, compared with a model."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hypothesis import HealthCheck, event, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, SomeStores, raising
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.client import DEVICE_CODE, ClientMetadata
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.device_codes import DEVICE_CODE_TTL
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.login.upstream import Authenticated, Login
from token_service.core.sessions.session import SessionState
from token_service.errors import (
    AccessDeniedError,
    AuthorizationPendingError,
    DeviceCodeExpiredError,
    GrantInvalidError,
    ServiceError,
    SlowDownError,
    StoreUnavailableError,
)
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.revocation import RevocationTarget

T = TypeVar("T")

TV = Caller("tv", Rights([]), Proof.CLIENT_ID, client_id="tv")
USERS = ("alice", "bob")
BROWSER = "b" * 22


class Unlimited:
    """Rates that admit everything. Tests of the page have the real ones."""

    async def take_always(self, *_: object) -> None:
        pass


@dataclass
class Device:
    """What the model knows of a device."""

    code: str
    user_code: str
    expire_time: float
    decision: tuple[str, int] | bool | None = None
    """The user and the revision of the login; False: denied."""
    is_used: bool = False
    session_of: str = ""
    paces: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By node: the time of the next poll, and the interval."""


@dataclass
class Form:
    """The form that asks a user about a device."""

    device: Device
    user: str
    ticket: str
    revision: int
    expire_time: float


class Devices(RuleBasedStateMachine):
    """Two nodes on the same stores."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.stores = MemoryStores(self.clock)
        self.requests = Intercepted(self.stores.device_requests)
        shared = SomeStores.of(self.stores, device_requests=self.requests)
        self.nodes = [
            Node(self.clock, stores=shared, node_id=f"node-{n}", seed=n, max_staleness=1e12) for n in (1, 2)
        ]
        self.user = ""
        for node in self.nodes:
            self.do(node.start())
            upstreams = node.core.login.upstreams
            upstreams.current = {"inhouse": upstreams.challenge("https://login.example/in")}
            node.core.login.logins.authenticate = self.authenticate  # type: ignore[method-assign]
        metadata = ClientMetadata(grant_types=(DEVICE_CODE,), scopes=("read",))
        self.do(self.nodes[0].core.client_administration.create(Caller.system(), "tv", metadata, 0.0))
        for node in self.nodes:
            self.do(node.core.clients.refresh())
        self.devices: list[Device] = []
        self.forms: list[Form] = []
        self.revoked: dict[str, int] = {}

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.runner.close()

    async def authenticate(self, login: Login, parameters: Mapping[str, str], now: float) -> Authenticated:
        return Authenticated(subject=self.user)

    @property
    def now(self) -> float:
        return self.clock.now()

    @rule(node=st.sampled_from([0, 1]))
    def begin(self, node: int) -> None:
        begun = self.do(
            self.nodes[node].core.devices.authorizations.begin(TV, GrantRequest(scopes=("read",)), self.now)
        )
        assert begun.expire_time == self.now + DEVICE_CODE_TTL
        self.devices.append(Device(begun.device_code, begun.user_code, begun.expire_time))

    @rule(node=st.sampled_from([0, 1]), user=st.sampled_from(USERS), approve=st.booleans())
    def begin_and_decide(self, node: int, user: str, *, approve: bool) -> None:
        """Take the usual way, so that more examples have a decision early."""
        self.begin(node)
        self.ask(self.devices[-1], 1 - node, user)
        self.answer(self.forms[-1], node, approve=approve)

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), node=st.sampled_from([0, 1]), user=st.sampled_from(USERS))
    def log_in(self, data: st.DataObject, node: int, user: str) -> None:
        self.ask(data.draw(st.sampled_from(self.devices)), node, user)

    def ask(self, device: Device, node: int, user: str) -> None:
        core = self.nodes[node].core
        self.user = user
        ticket = core.devices.logins.ticket(BROWSER, self.now)
        rates, core.devices.logins._rates = core.devices.logins._rates, Unlimited()  # type: ignore[assignment]
        try:
            login, _, _ = self.do(core.devices.logins.enter(device.user_code, ticket, BROWSER, "", self.now))
        except GrantInvalidError:
            assert device.decision is not None or device.expire_time <= self.now
            return
        finally:
            core.devices.logins._rates = rates
        assert device.decision is None
        assert device.expire_time > self.now
        question = self.do(core.devices.logins.ask(login, {}, BROWSER, self.now))
        revision = self.nodes[node].replica.applied
        self.forms.append(Form(device, user, question.ticket, revision, self.now + 600))

    @precondition(lambda self: self.forms)
    @rule(data=st.data(), node=st.sampled_from([0, 1]), approve=st.booleans())
    def decide(self, data: st.DataObject, node: int, *, approve: bool) -> None:
        self.answer(data.draw(st.sampled_from(self.forms)), node, approve=approve)

    def answer(self, form: Form, node: int, *, approve: bool) -> None:
        device = form.device
        logins = self.nodes[node].core.devices.logins
        try:
            self.do(logins.decide(form.ticket, BROWSER, self.now, approve=approve))
        except ServiceError:
            assert (
                device.decision is not None or device.expire_time <= self.now or form.expire_time <= self.now
            )
            return
        assert device.decision is None
        assert device.expire_time > self.now
        device.decision = (form.user, form.revision) if approve else False

    @rule(user=st.sampled_from(USERS), node=st.sampled_from([0, 1]))
    def revoke(self, user: str, node: int) -> None:
        self.do(self.nodes[node].revoke(target=RevocationTarget.SUBJECT, value=user))
        self.revoked[user] = self.stores.log._state.head.sequence
        for device in self.devices:
            if device.session_of == user:
                device.session_of = ""

    @rule(seconds=st.sampled_from([1, 4, 5, 10, 60, 599]))
    def wait(self, seconds: int) -> None:
        self.clock.elapsed += seconds

    @rule()
    def purge(self) -> None:
        self.do(self.stores.device_requests.purge(self.now - 60, 100))

    @precondition(lambda self: self.devices)
    @rule(data=st.data(), node=st.sampled_from([0, 1]), remove_fails=st.booleans())
    def poll(self, data: st.DataObject, node: int, *, remove_fails: bool) -> None:
        device = data.draw(st.sampled_from(self.devices))
        expected = self.expected(device, node)
        self.requests.before = {"remove": raising(StoreUnavailableError())} if remove_fails else {}
        self.poll_once(device, node, expected)

    @precondition(lambda self: any(isinstance(device.decision, tuple) for device in self.devices))
    @rule(data=st.data(), node=st.sampled_from([0, 1]))
    def poll_twice(self, data: st.DataObject, node: int) -> None:
        """Poll an approved device whose request stays, after the interval again."""
        device = data.draw(
            st.sampled_from([each for each in self.devices if isinstance(each.decision, tuple)])
        )
        self.requests.before = {"remove": raising(StoreUnavailableError())}
        for at in (node, 1 - node):
            self.poll_once(device, at, self.expected(device, at))
            self.clock.elapsed += 5

    def poll_once(self, device: Device, node: int, expected: type[ServiceError] | None) -> None:
        grant = self.nodes[node].core.grants.device
        issued: IssuedTokens | None = None
        got: type[ServiceError] | None = None
        try:
            issued = self.do(grant.grant(TV, GrantRequest(), device.code, self.now))
        except ServiceError as error:
            got = type(error)
        event("issued" if got is None else got.__name__)
        assert got is expected
        if issued is None:
            return
        assert isinstance(device.decision, tuple)
        device.session_of = device.decision[0]
        claims = self.do(self.nodes[node].validate(issued.access_token)).claims
        assert isinstance(claims, VerifiedClaims)
        assert claims.subject == device.session_of

    def expected(self, device: Device, node: int) -> type[ServiceError] | None:
        """Return the error of a poll, and follow what the poll changes."""
        if device.expire_time <= self.now:
            device.paces.pop(node, None)
            return DeviceCodeExpiredError
        due, interval = device.paces.get(node, (self.now, 5.0))
        if self.now < due - 1:
            interval = min(interval + 5, 60)
            device.paces[node] = (self.now + interval, interval)
            return SlowDownError
        device.paces[node] = (self.now + interval, interval)
        if device.is_used:
            return GrantInvalidError
        if device.decision is None:
            return AuthorizationPendingError
        if not isinstance(device.decision, tuple):
            return AccessDeniedError
        device.is_used = True
        user, revision = device.decision
        if self.revoked.get(user, 0) > revision:
            return GrantInvalidError
        del device.paces[node]
        return None

    @invariant()
    def every_approved_device_has_at_most_one_live_session(self) -> None:
        state = self.stores.sessions._state
        live = sorted(
            each.subject
            for each in state.sessions.values()
            if state.seen(each).state(self.now) is SessionState.ACTIVE
        )
        assert live == sorted(device.session_of for device in self.devices if device.session_of)
        assert len(state.sessions) == sum(device.is_used for device in self.devices)


TestDevices = Devices.TestCase
TestDevices.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
