"""The transmitters of the policy file: identity providers whose security events count here.

[security_event_transmitters.corporate]
issuer = "https://login.corporate.example"
keys = "https://login.corporate.example/ssf/keys"
audience = "https://tokens.example.org"
algorithms = ["RS256"]
upstream = "corporate"

[security_event_transmitters.corporate.push]
token_file = "/etc/token-service/corporate.push"

[security_event_transmitters.corporate.events]
token-claims-change = "revoke_session"
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from token_service.core.access.foreign_issuers import (
    PLACE_SETTINGS,
    ForeignIssuer,
    check_place,
    parse_issuers,
    place_settings,
    require_known,
    require_text,
)
from token_service.core.access.key_sources import KeySource
from token_service.core.grants.subjects import SubjectTemplate
from token_service.core.limits import MAX_AUDIENCE
from token_service.core.login.oidc_settings import OidcSettings
from token_service.core.login.upstreams import UpstreamSettings
from token_service.core.security_events.event_types import BY_NAME, EventAction
from token_service.core.security_events.polling import Poll
from token_service.core.security_events.subjects import FORMATS, ISS_SUB, SubjectMapping
from token_service.durations import parse_duration
from token_service.suggestions import did_you_mean, shown
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.assertions import ASSERTION_ALGORITHMS

DAY: Final = 86_400.0
MAX_AGE: Final = 7 * DAY
"""Seconds since `iat` for which a security event token counts, unless the settings say less. A transmitter repeats for days."""
POLL_INTERVAL: Final = 5.0
MAX_POLL_INTERVAL: Final = 3600.0
_POLL_SETTINGS: Final = ("endpoint", "token_file", "interval")


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Delivery by requests of the transmitter (RFC 8935)."""

    token_file: str = ""
    """Path of the bearer token that the transmitter must present. Empty: its signature alone proves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """Delivery by requests of this service (RFC 8936)."""

    endpoint: str
    token_file: str = ""
    """Path of the bearer token that the endpoint demands, read at each request. Empty: none."""
    interval: float = POLL_INTERVAL
    """Seconds between two requests while there are no events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transmitter(ForeignIssuer):
    """A transmitter of the policy file."""

    TABLE: ClassVar[str] = "security_event_transmitters"
    audience: str
    """The value that `aud` must have or contain."""
    algorithms: Mapping[str, Algorithm]
    """The accepted values of `alg`."""
    upstream: str = ""
    """The upstream whose provider this is: its sessions are those that events mean. Empty: all sessions of a subject."""
    subjects: SubjectMapping
    actions: Mapping[str, EventAction] = field(default_factory=dict)
    """The action of each known event type, by URI."""
    max_age: float = MAX_AGE
    push: Push | None = None
    poll: Polling | None = None


@dataclass(frozen=True, slots=True)
class ConnectedTransmitter:
    """A transmitter with what its settings name."""

    settings: Transmitter
    keys: KeySource
    push_token: Callable[[], Awaitable[str]] | None = None
    """Reads the bearer token of pushes. Raises `StoreUnavailableError`. None: pushes need none."""
    poll: Poll | None = None
    """None: it is not polled."""


SETTINGS: Final = (
    *(each for each in PLACE_SETTINGS if each != "trust_domain"), "audience", "algorithms", "upstream", "subjects", "events", "max_age", "push", "poll",
)  # fmt: skip


def parse_transmitters(
    document: Mapping[str, Any], upstreams: Mapping[str, UpstreamSettings]
) -> dict[str, Transmitter]:
    """Return the transmitters by name. Raises `ConfigurationError`, which lists every mistake."""
    return parse_issuers(
        document, Transmitter.TABLE, lambda name, settings: _transmitter(name, settings, upstreams)
    )


def _transmitter(
    name: str, settings: dict[str, Any], upstreams: Mapping[str, UpstreamSettings]
) -> Transmitter:
    require_known(settings, SETTINGS)
    for key in ("issuer", "keys", "audience", "algorithms"):
        if key not in settings:
            raise ValueError(f"{key}: is required")
    upstream = None if "upstream" not in settings else _upstream(settings["upstream"], upstreams)
    audience = require_text("audience", settings["audience"])
    if len(audience) > MAX_AUDIENCE:
        raise ValueError(f"audience: is longer than {MAX_AUDIENCE} characters")
    values = place_settings(settings)
    transmitter = Transmitter(
        name=name,
        **values,
        audience=audience,
        algorithms=_algorithms(settings["algorithms"]),
        upstream="" if upstream is None else upstream.name,
        subjects=_subjects(name, values["issuer"], settings.get("subjects", {}), upstream),
        actions=_actions(settings.get("events", {})),
        max_age=_span("max_age", settings.get("max_age", "7d"), MAX_AGE),
        push=_push(settings["push"]) if "push" in settings else None,
        poll=_poll(settings["poll"]) if "poll" in settings else None,
    )
    # As for upstreams: with `private`, http reaches loopback addresses.
    check_place(transmitter, ("https://", "http://") if transmitter.private else ("https://",))
    if transmitter.push is None and transmitter.poll is None:
        raise ValueError("needs the table push or the table poll, by which its events arrive")
    return transmitter


def _upstream(value: Any, upstreams: Mapping[str, UpstreamSettings]) -> OidcSettings:
    found = upstreams.get(require_text("upstream", value))
    if not isinstance(found, OidcSettings):
        known = [each.name for each in upstreams.values() if isinstance(each, OidcSettings)]
        raise ValueError(f"upstream: names no upstream of kind oidc{did_you_mean(value, known)}")
    return found


def _algorithms(value: Any) -> Mapping[str, Algorithm]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"algorithms: must be a list of {', '.join(ASSERTION_ALGORITHMS)}")
    for item in value:
        if not isinstance(item, str) or item not in ASSERTION_ALGORITHMS:
            raise ValueError(f"algorithms: {shown(item)} is none of {', '.join(ASSERTION_ALGORITHMS)}")
    return {item: ASSERTION_ALGORITHMS[item] for item in value}


def _subjects(name: str, issuer: str, value: Any, upstream: OidcSettings | None) -> SubjectMapping:
    templates: dict[str, SubjectTemplate] = {}
    if upstream is None:
        templates[ISS_SUB] = SubjectTemplate.parse(f"{name}:{{sub}}")
    elif upstream.subject.claims == {"sub"}:
        templates[ISS_SUB] = upstream.subject
    for kind, text in _table("subjects", value, tuple(FORMATS)).items():
        template = SubjectTemplate.parse(require_text(f"subjects.{kind}", text))
        if template.claims != {FORMATS[kind]}:
            raise ValueError(f"subjects.{kind}: must have the one placeholder {{{FORMATS[kind]}}}")
        templates[kind] = template
    issuers = {issuer} if upstream is None else {issuer, upstream.issuer}
    return SubjectMapping(frozenset(issuers), templates)


def _actions(value: Any) -> Mapping[str, EventAction]:
    actions = {each.uri: each.default for each in BY_NAME.values()}
    for name, action in _table("events", value, tuple(BY_NAME)).items():
        if not isinstance(action, str) or action not in tuple(EventAction):
            near = did_you_mean(action, EventAction) if isinstance(action, str) else ""
            raise ValueError(f"events.{name}: {shown(action)} is none of {', '.join(EventAction)}{near}")
        actions[BY_NAME[name].uri] = EventAction(action)
    return actions


def _push(value: Any) -> Push:
    settings = _table("push", value, ("token_file",))
    return Push(**{key: require_text(f"push.{key}", each) for key, each in settings.items()})


def _poll(value: Any) -> Polling:
    settings = _table("poll", value, _POLL_SETTINGS)
    texts = {
        key: require_text(f"poll.{key}", settings[key])
        for key in ("endpoint", "token_file")
        if key in settings
    }
    if "endpoint" not in texts:
        raise ValueError("poll.endpoint: is required")
    interval = _span("poll.interval", settings.get("interval", f"{POLL_INTERVAL:g}s"), MAX_POLL_INTERVAL)
    return Polling(**texts, interval=interval)


def _table(key: str, value: Any, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{key}: must be a table")
    try:
        require_known(value, known)
    except ValueError as error:
        raise ValueError(f"{key}.{error}") from None
    return value


def _span(key: str, value: Any, longest: float) -> float:
    if not isinstance(value, str):
        raise ValueError(f'{key}: must be a time, such as "10m"')
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    if not 1 <= seconds <= longest:
        raise ValueError(f"{key}: must be from 1 s to {longest:g} s")
    return seconds
