"""Policies: lifetimes and rules for the clients of each security classification.

This module does no I/O; `policy_file` reads files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final

from token_service.core.policies.custom_claims import forbidden_claims
from token_service.core.policies.rates import ClassRates, parse_class_rates
from token_service.durations import parse_duration
from token_service.errors import ConfigurationError, PolicyViolationError
from token_service.suggestions import did_you_mean, listed, shown
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
MAX_SESSION_TTL: Final = 400 * DAY
"""Maximal lifetime of a session in seconds under any policy, so its data may be purged afterward."""


class Source(StrEnum):
    """Where a setting of a policy comes from. A later one overrides the ones before."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    OVERRIDE = "override"
    """The database. See `overrides`."""
    AUDIENCE = "audience"
    """The classification of an audience, which makes the policy of a client stricter."""
    REGISTRATION = "registration"
    """The registration of a client, which makes its policy stricter."""


class ReuseResponse(StrEnum):
    """The target to revoke when a superseded refresh token is presented."""

    SESSION = "session"
    SUBJECT = "subject"
    """All sessions of the subject."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules for the clients of one classification. Times are in seconds."""

    access_token_ttl: int = 30 * MINUTE
    id_token_ttl: int = 5 * MINUTE
    transaction_token_ttl: int = 5 * MINUTE
    refresh_token_ttl: int = 14 * DAY
    """Lifetime of a session, regardless of use."""
    idle_timeout: int = 7 * DAY
    """Lifetime of an unused session."""
    personal_access_token_ttl: int = 90 * DAY
    """The longest lifetime of a personal access token; 0: the clients get none."""
    rotate: bool = True
    """Whether each refresh replaces the refresh token."""
    grace_period: int = 10
    """Time for which a superseded refresh token still gets its successor."""
    max_retries: int = 100
    """Maximal number of retries within the grace period. 0 only without a grace period: a client that is told to
    retry later would then count as a thief.
    """
    refresh_race_window: int = 0
    """Time after the grace period for which a superseded refresh token from the origin of the last use is a race, not theft.

    0: it is always theft.
    """
    reuse_response: ReuseResponse = ReuseResponse.SESSION
    binding_required: bool = False
    """Whether tokens must be bound to a key (RFC 7800)."""
    dpop_nonces: bool = False
    """Whether DPoP proofs that are sent to this service must have a nonce of it (RFC 9449, sections 8 and 9)."""
    max_custom_claim_bytes: int = 4096
    allowed_custom_claims: tuple[str, ...] = ()
    """Names of custom claims that a request may set; empty: any that `custom_claims` does not refuse."""
    default_audience: tuple[str, ...] = ()
    """`aud` if the request names none; empty: the issuer itself."""
    rates: ClassRates = field(default_factory=dict, hash=False)
    """How many calls are admitted; empty: any number."""


SETTINGS: Final = tuple(sorted(each.name for each in fields(Policy)))
"""The names of the settings of a policy."""

_BUILT_IN: Final[Mapping[str, Policy]] = {
    "public": Policy(access_token_ttl=60 * MINUTE, refresh_token_ttl=30 * DAY, idle_timeout=14 * DAY),
    "internal": Policy(),
    "confidential": Policy(
        access_token_ttl=15 * MINUTE,
        refresh_token_ttl=7 * DAY,
        idle_timeout=1 * DAY,
        personal_access_token_ttl=30 * DAY,
    ),
    "restricted": Policy(
        access_token_ttl=15 * MINUTE,
        refresh_token_ttl=7 * DAY,
        idle_timeout=8 * HOUR,
        personal_access_token_ttl=0,
        reuse_response=ReuseResponse.SUBJECT,
        binding_required=True,
        max_custom_claim_bytes=2048,
    ),
}

_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "access_token_ttl": (1, MAX_ACCESS_TOKEN_TTL),
    "id_token_ttl": (1, MAX_ACCESS_TOKEN_TTL),
    "transaction_token_ttl": (1, 5 * MINUTE),
    "refresh_token_ttl": (1, MAX_SESSION_TTL),
    "idle_timeout": (1, MAX_SESSION_TTL),
    "personal_access_token_ttl": (0, 366 * DAY),
    "grace_period": (0, 5 * MINUTE),
    "refresh_race_window": (0, 5 * MINUTE),
    "max_retries": (0, 10_000),
    "max_custom_claim_bytes": (0, 8192),
}
_TOP: Final = (
    "default", "classifications", "clients", "audiences", "callers", "operators", "workload_issuers", "trusted_issuers", "upstreams",
    "security_event_transmitters", "risk", "automatic_revocation",
)  # fmt: skip
_LIFETIMES: Final = (
    "access_token_ttl",
    "id_token_ttl",
    "transaction_token_ttl",
    "refresh_token_ttl",
    "idle_timeout",
    "personal_access_token_ttl",
)
SPANS: Final = frozenset({*_LIFETIMES, "grace_period", "refresh_race_window"})
"""The settings that are times in seconds."""
_WHOLE: Final = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class PolicyBook:
    """The policy of each client."""

    policies: Mapping[str, Policy] = field(default_factory=lambda: dict(_BUILT_IN))
    """By classification."""
    classifications: Mapping[str, str] = field(default_factory=dict)
    """By client_id."""
    audiences: Mapping[str, str] = field(default_factory=dict)
    """Classifications by audience. An audience that is not named has none."""
    default: str = "internal"
    """The classification of clients that are not named."""
    sources: Mapping[str, Source] = field(default_factory=dict, compare=False)
    """Sources of settings by `<classification>.<setting>`. A setting that is not named has its default."""

    def classification(self, client_id: str) -> str:
        """Return the classification of a client."""
        return self.classifications.get(client_id, self.default)

    def policy(
        self, client_id: str, audience: Sequence[str] = (), *, registered: str | None = None
    ) -> Policy:
        """Return the policy of a client, made stricter by the classifications of audiences.

        The shortest lifetime counts, and a binding that one of them requires. `registered` overrides the
        classification of the client. Raises `PolicyViolationError` if the book lacks it.
        """
        policy = self.policies.get(registered or self.classification(client_id))
        if policy is None:
            raise PolicyViolationError(
                f"the client is registered with the classification {registered!r}, which the policy file of this node "
                "lacks; add it there, or change the client"
            )
        if not self.audiences:
            return policy
        for name in audience:
            classification = self.audiences.get(name)
            if classification is not None:
                policy = _stricter(policy, self.policies[classification])
        return policy


def _stricter(policy: Policy, other: Policy) -> Policy:
    return replace(
        policy,
        binding_required=policy.binding_required or other.binding_required,
        **{name: min(getattr(policy, name), getattr(other, name)) for name in _LIFETIMES},
    )


def is_stricter(policy: Policy, other: Policy) -> bool:
    """Tell whether a policy has a shorter lifetime than another one, or requires a binding that the other does not."""
    return _stricter(other, policy) != other


def parse_policy_book(document: Mapping[str, Any], overrides: Mapping[str, str] | None = None) -> PolicyBook:
    """Apply the policies of a document (parsed TOML) over the built-in ones, then `overrides`.

    `overrides` maps `<classification>.<setting>` to text.

        default = "internal"

        [classifications.internal]
        access_token_ttl = "20m"

        [clients.billing]
        classification = "restricted"

        [audiences."https://billing.example.org"]
        classification = "restricted"

    Raises `ConfigurationError`, which lists every mistake.
    """
    problems: list[str] = []
    policies = dict(_BUILT_IN)
    problems += [
        f"{name}: no such setting; allowed: {', '.join(_TOP)}{did_you_mean(name, _TOP)}"
        for name in sorted(set(document) - set(_TOP))
    ]
    sources: dict[str, Source] = {}
    for name, settings in _table(document, "classifications", problems).items():
        policies[name] = _override(
            f"classifications.{name}", policies.get(name, Policy()), settings, problems
        )
        if isinstance(settings, dict):
            sources.update(dict.fromkeys((f"{name}.{each}" for each in settings), Source.FILE))
    for path, text in (overrides or {}).items():
        name, _, setting = path.partition(".")
        if name not in policies:
            known = ", ".join(sorted(policies))
            problems.append(
                f"{path}: no classification {name!r}; known: {known}{did_you_mean(name, policies)}"
            )
            continue
        policies[name] = _override(name, policies[name], {setting: text}, problems)
        sources[path] = Source.ENVIRONMENT
    problems += contradictions(policies)
    named: dict[str, dict[str, str]] = {"clients": {}, "audiences": {}}
    for table, classified in named.items():
        for name, settings in _table(document, table, problems).items():
            try:
                classified[name] = _classification(settings, policies)
            except ValueError as error:
                problems.append(f"{table}.{name}: {error}")
    default = document.get("default", "internal")
    if not isinstance(default, str) or default not in policies:
        near = did_you_mean(default, policies) if isinstance(default, str) else ""
        problems.append(f"default: {shown(default)} is none of {', '.join(sorted(policies))}{near}")
    if problems:
        raise ConfigurationError(listed("the policies are invalid:", problems))
    return PolicyBook(policies, named["clients"], named["audiences"], default, sources)


def contradictions(policies: Mapping[str, Policy]) -> list[str]:
    """Return a problem for each policy whose settings contradict each other."""
    return [
        f"{name}.max_retries: 0 with a grace_period of {policy.grace_period} s would put a retry off until it counts as theft; "
        'for no retries set grace_period = "0s", otherwise max_retries to 1 or more'
        for name, policy in policies.items()
        if policy.max_retries == 0 < policy.grace_period
    ]


def parse_setting(name: str, value: Any) -> Any:
    """Return the value of a setting of a policy, from its value in a policy file. Raises `ValueError`."""
    if name not in SETTINGS:
        raise ValueError(
            f"no such setting{did_you_mean(name, SETTINGS) or ';'} allowed: {', '.join(SETTINGS)}"
        )
    if name == "rates":
        return parse_class_rates(value)
    try:
        return _value(name, value)
    except ValueError as error:
        raise ValueError(f"{shown(value)} {error}") from None


def _table(document: Mapping[str, Any], name: str, problems: list[str]) -> Mapping[str, Any]:
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    problems.append(f"{name}: must be a table")
    return {}


def _classification(settings: Any, policies: Mapping[str, Policy]) -> str:
    known = ", ".join(sorted(policies))
    if not isinstance(settings, dict) or "classification" not in settings:
        unknown = next(iter(settings), "") if isinstance(settings, dict) else ""
        raise ValueError(
            f"must have a classification, one of {known}{did_you_mean(unknown, ['classification'])}"
        )
    if len(settings) > 1:
        unknown = ", ".join(sorted(set(settings) - {"classification"}))
        raise ValueError(f"{unknown}: no such setting; allowed: classification")
    name = settings["classification"]
    if not isinstance(name, str) or name not in policies:
        near = did_you_mean(name, policies) if isinstance(name, str) else ""
        raise ValueError(f"{shown(name)} is no classification; it must be one of {known}{near}")
    return name


def _override(path: str, policy: Policy, settings: Any, problems: list[str]) -> Policy:
    if not isinstance(settings, dict):
        problems.append(f"{path}: must be a table")
        return policy
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        try:
            changes[name] = parse_setting(name, value)
        except ValueError as error:
            problems.append(f"{path}.{name}: {error}")
    return replace(policy, **changes)


def _value(name: str, value: Any) -> Any:
    if name in ("rotate", "binding_required", "dpop_nonces"):
        text = str(value).lower() if isinstance(value, str | bool) else ""
        truth = {"true": True, "false": False}.get(text)
        if truth is None:
            raise ValueError("is neither true nor false")
        return truth
    if name == "reuse_response":
        if value not in tuple(ReuseResponse):
            raise ValueError("is neither session nor subject")
        return ReuseResponse(value)
    if name in ("default_audience", "allowed_custom_claims"):
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
            raise ValueError("is not a list of names")
        if name == "allowed_custom_claims" and (wrong := forbidden_claims(items)):
            raise ValueError(f"has {wrong[0]}, which no request may set")
        return tuple(items)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    number = _whole_seconds(text) if name in SPANS else _whole(text)
    low, high = _RANGES[name]
    if not low <= number <= high:
        raise ValueError(f"is not from {low} to {high}")
    return number


def _whole(text: str) -> int:
    if _WHOLE.fullmatch(text) is None:
        raise ValueError("is not a whole number")
    return int(text)


def _whole_seconds(text: str) -> int:
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = -1.0
    if not seconds.is_integer() or seconds < 0:
        raise ValueError('is not a number of seconds, or a span like "90s", "15m", "8h", "7d"')
    return int(seconds)
