"""Rates: how many calls a policy admits in a span of time.

The rates of a classification name an operation and what its calls are counted by:

    rates = { issue_per_client = "1000/1m", issue_per_subject = "60/1m", refresh_per_address = "100/10s" }

The rates of a caller name operations only:

    rates = { issue = "5000/1m", revoke_names = "100/1m" }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import msgspec

from token_service.durations import duration_text, parse_duration
from token_service.suggestions import did_you_mean, shown

MAX_AMOUNT: Final = 100_000
"""Calls in one window. Redis keeps about 20 bytes for each admitted call of a window."""
MAX_PERIOD: Final = 86_400
"""Seconds of one window."""


class Bucket(StrEnum):
    """What calls are counted by. The bucket that most calls share comes last."""

    SUBJECT = "subject"
    ADDRESS = "address"
    """The `client_context.ip_address` of the request. A call without one is not counted."""
    CLIENT = "client"
    CALLER = "caller"
    BROWSER = "browser"
    """A browser with the cookie of the device page. Without a cookie nothing tells browsers of one address apart."""


class Operation(StrEnum):
    """What a rate limits. Several may apply to one call."""

    ISSUE = "issue"
    OPEN_SESSION = "open_session"
    """IssueToken for a refresh or session token."""
    REFRESH = "refresh"
    REVOKE = "revoke"
    REVOKE_NAMES = "revoke_names"
    """Revocation of a subject, a client or a token id without its token."""
    UPDATE_SESSION = "update_session"
    """ExtendSession and UpdateSession."""
    VALIDATE_OPAQUE = "validate_opaque"
    """Validation of a refresh or session token, which reads its session."""
    AUTHORIZE_DEVICE = "authorize_device"
    """A request of a device at the device authorization endpoint. It has a rate even without one in the policy."""
    ENTER_USER_CODE = "enter_user_code"
    """A user code typed at the device page, whose client is not known before. Its rate is fixed."""


OF_CALLERS: Final = tuple(each for each in Operation if each is not Operation.ENTER_USER_CODE)
"""The operations that can have a rate of a caller. Browsers are no callers."""


class Rate(msgspec.Struct, frozen=True):
    """At most `amount` calls in any `period` of seconds."""

    amount: int
    period: int

    def __str__(self) -> str:
        return f"{self.amount}/{duration_text(self.period)}"


ClassRates: TypeAlias = Mapping[tuple[Operation, Bucket], Rate]
CallerRates: TypeAlias = Mapping[Operation, Rate]

NO_RATES: Final[Mapping[Operation, Any]] = MappingProxyType({})

_BUCKETS: Final = (Bucket.SUBJECT, Bucket.ADDRESS, Bucket.CLIENT)
_ALLOWED: Final[Mapping[str, tuple[Operation, Bucket]]] = {
    f"{operation}_per_{bucket}": (operation, bucket)
    for operation, buckets in (
        (Operation.ISSUE, _BUCKETS),
        (Operation.OPEN_SESSION, _BUCKETS),
        (Operation.REFRESH, _BUCKETS),
        (Operation.UPDATE_SESSION, (Bucket.CLIENT,)),
        (Operation.AUTHORIZE_DEVICE, (Bucket.ADDRESS, Bucket.CLIENT)),
    )
    for bucket in buckets
}
"""Other operations do not name their client before they have done their work."""


def parse_class_rates(settings: Any) -> ClassRates:
    """Return the rates of a classification: a table, or `name=rate` separated by commas. Raises `ValueError`."""
    if isinstance(settings, str):
        parts = (item.partition("=") for item in settings.split(","))
        settings = {name.strip(): text.strip() for name, _, text in parts}
    found = _parse(settings, tuple(_ALLOWED))
    return {_ALLOWED[name]: rate for name, rate in found.items()}


def parse_caller_rates(settings: Any) -> CallerRates:
    """Return the rates of a caller. Raises `ValueError`."""
    return {Operation(name): rate for name, rate in _parse(settings, OF_CALLERS).items()}


def strictest(several: Iterable[CallerRates]) -> CallerRates:
    """Return the rates of a caller with several names: of each operation the one that admits the least."""
    found: dict[Operation, Rate] = {}
    for rates in several:
        for operation, rate in rates.items():
            known = found.get(operation)
            if known is None or (rate.amount / rate.period, rate.amount) < (
                known.amount / known.period,
                known.amount,
            ):
                found[operation] = rate
    return found or NO_RATES


def _parse(settings: Any, known: Sequence[str]) -> dict[str, Rate]:
    if not isinstance(settings, dict):
        raise ValueError('must be a table such as { name = "1000/1m" }')
    rates = {}
    for name, text in settings.items():
        if name not in known:
            raise ValueError(f"{name}: no such rate; allowed: {', '.join(known)}{did_you_mean(name, known)}")
        try:
            rates[name] = parse_rate(text)
        except ValueError:
            raise ValueError(
                f'{name}: {shown(text)} is no rate such as "1000/1m": from 1 to {MAX_AMOUNT} calls, '
                f"in whole seconds from 1s to {duration_text(MAX_PERIOD)}"
            ) from None
    return rates


def parse_rate(text: Any) -> Rate:
    """Return the rate that a text such as `1000/1m` names. Raises `ValueError`."""
    amount, slash, span = text.partition("/") if isinstance(text, str) else ("", "", "")
    if not slash or not amount.isascii() or not amount.isdigit() or len(amount) > len(str(MAX_AMOUNT)):
        raise ValueError("no rate")
    seconds = parse_duration(span)
    if not 1 <= int(amount) <= MAX_AMOUNT or not 1 <= seconds <= MAX_PERIOD or not seconds.is_integer():
        raise ValueError("out of range")
    return Rate(int(amount), int(seconds))
