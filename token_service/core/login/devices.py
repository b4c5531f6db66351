"""The device page (RFC 8628, section 3.3): a user types the code of a device, logs in, and approves or denies.

Every form of the page has a sealed ticket that names the browser it was made for, and the browser has the same name in
a cookie. So no other site can send a form (CSRF), and no form that one browser got counts in another one.

The user approves each device on a page with the name of the client, its scopes and the code. That is the consent to this
one session, so clients of others may use devices, too, although they can't use the authorization endpoint.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from token_service.core.access.rates import Rates, network_of
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import DEVICE_CODE, Client, ClientState
from token_service.core.grants.device_codes import parse_user_code, shown_user_code, user_code_digest
from token_service.core.grants.device_requests import Approval, Decision, DeviceRequests
from token_service.core.keys.sealer import Sealer
from token_service.core.login.logins import LOGIN_TTL, Logins
from token_service.core.login.requests import AuthorizationRequest
from token_service.core.login.upstream import Login
from token_service.core.policies.rates import Bucket, Operation, Rate
from token_service.errors import GrantInvalidError, InvalidRequestError
from token_service.tokens.opaque_token import OpaqueTokenError

MAX_CODES_OF_BROWSER: Final = Rate(10, 600)
MAX_CODES_OF_ADDRESS: Final = Rate(20, 600)
"""User codes that are typed, right or wrong, in any ten minutes. `device_codes` has the arithmetic."""
TICKET_TTL: Final = LOGIN_TTL
"""Seconds that a form of the page can be sent."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sealed state of a form. Times are NumericDates."""

    browser: str
    expire_time: float
    client_id: str = ""
    user_code_digest: bytes = b""
    approval: Approval | None = None
    """The approval to record if the user approves; None: the form asks for a user code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the page asks a user who has logged in."""

    client: Client
    scopes: tuple[str, ...]
    user_code: str
    """As the device shows it."""
    ticket: str


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Ticket).decode


class DeviceLogins:
    """Takes user codes and the decisions of users."""

    def __init__(
        self,
        logins: Logins,
        clients: ClientAdmission,
        requests: DeviceRequests,
        rates: Rates,
        sealer: Sealer,
        revision: Callable[[], int],
    ) -> None:
        """`revision` returns the head of the revocation log as this node knows it."""
        self._logins = logins
        self._clients = clients
        self._requests = requests
        self._rates = rates
        self._sealer = sealer
        self._revision = revision

    def ticket(self, browser: str, now: float) -> str:
        """Return the ticket of a form that asks for a user code."""
        return self._sealer.seal(_encode(Ticket(browser=browser, expire_time=now + TICKET_TTL)))

    async def enter(
        self, typed: str, ticket: str, browser: str, address: str, now: float
    ) -> tuple[Login, str, str]:
        """Begin the login of a user who has typed a user code. See `Logins.start`.

        Raises `GrantInvalidError`, always with the same message, for a code that is wrong, has expired, was used or
        decided before, or whose client gets no tokens. Raises `InvalidRequestError` for a form of another browser,
        `RateLimitedError`, `StoreUnavailableError` and the errors of `Logins.start`.
        """
        # First, so that no other site can use up the tries of its visitors.
        await self._open(ticket, browser, now)
        await self._rates.take_always(
            Operation.ENTER_USER_CODE, Bucket.ADDRESS, MAX_CODES_OF_ADDRESS, network_of(address)
        )
        await self._rates.take_always(
            Operation.ENTER_USER_CODE, Bucket.BROWSER, MAX_CODES_OF_BROWSER, browser
        )
        code = parse_user_code(typed)
        found = None if code is None else await self._requests.find(user_code_digest(code))
        if (
            code is None
            or found is None
            or found.decision is not None
            or found.expire_time <= now
            or self._client(found.client_id) is None
        ):
            raise _invalid()
        request = AuthorizationRequest(
            client_id=found.client_id,
            redirect_uri="",
            code_challenge="",
            scopes=found.scopes,
            audience=found.audience,
        )
        return await self._logins.start(request, now, user_code=code)

    async def ask(self, login: Login, parameters: Mapping[str, str], browser: str, now: float) -> Question:
        """Return the question for the user of a login that the browser has brought back.

        Raises `GrantInvalidError` if the client gets no tokens any more, `InvalidRequestError`, and the errors of
        `Logins.authenticate`.
        """
        revision = self._revision()
        user = await self._logins.authenticate(login, parameters, now)
        client = self._client(login.request.client_id)
        if client is None:
            raise _invalid()
        approval = Approval(
            subject=user.subject,
            revision=revision,
            auth_context=user.auth_context,
            custom_claims=user.custom_claims,
            identity_claims=user.identity_claims,
            upstream=login.upstream,
            upstream_session=user.upstream_session,
        )
        ticket = Ticket(
            browser=browser,
            expire_time=now + TICKET_TTL,
            client_id=client.client_id,
            user_code_digest=user_code_digest(login.user_code),
            approval=approval,
        )
        try:
            sealed = self._sealer.seal(_encode(ticket))
        except ValueError:
            raise InvalidRequestError.of(
                "custom_claims", "and identity_claims of the user are too long for a form"
            ) from None
        return Question(
            client=client,
            scopes=login.request.scopes,
            user_code=shown_user_code(login.user_code),
            ticket=sealed,
        )

    async def decide(self, ticket: str, browser: str, now: float, *, approve: bool) -> None:
        """Record the decision of a user.

        Raises `GrantInvalidError` if the code has expired, if its client gets no tokens any more, and if it was decided
        before, `InvalidRequestError` for a form of another browser, `StoreUnavailableError`.
        """
        content = await self._open(ticket, browser, now)
        if content.approval is None:
            raise InvalidRequestError.of("ticket", "is of the form that asks for a code")
        if self._client(content.client_id) is None:
            raise _invalid()
        decision = Decision(content.approval if approve else None)
        if not await self._requests.decide(content.user_code_digest, decision, now):
            raise _invalid()

    def _client(self, client_id: str) -> Client | None:
        """Return a client that may authorize devices."""
        client = self._clients.get(client_id)
        if client is None or client.state is not ClientState.ACTIVE or DEVICE_CODE not in client.grant_types:
            return None
        return client

    async def _open(self, text: str, browser: str, now: float) -> Ticket:
        try:
            ticket = _decode(await self._sealer.open(text))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise InvalidRequestError.of("ticket", "is not of this service; open the page again") from None
        if not browser or not hmac.compare_digest(ticket.browser.encode(), browser.encode()):
            raise InvalidRequestError.of("ticket", "is of another browser; open the page again")
        if ticket.expire_time <= now:
            raise InvalidRequestError.of("ticket", "has expired; open the page again")
        return ticket


def _invalid() -> GrantInvalidError:
    return GrantInvalidError("user_code: it is wrong, has expired, or was used before")
