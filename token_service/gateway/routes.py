"""The requirements of a check, from the configuration of the proxy or from a named route."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from token_service.client.requirements import Requirements
from token_service.errors import ConfigurationError
from token_service.gateway.settings import Route

logger = logging.getLogger(__name__)

_LISTS: Final = ("scopes", "roles", "groups", "entitlements", "acr_values")
_TEXTS: Final = ("issuer", "audience")
_FLAGS: Final = ("public", "cors_preflight")
KEYS: Final = frozenset({"route", "max_age", *_LISTS, *_TEXTS, *_FLAGS})
_TRUTH: Final = {"true": True, "false": False}
_MAX_KNOWN: Final = 1024
_MAX_TEXT: Final = 8192


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule for a request."""

    required: Requirements
    public: bool = False
    cors_preflight: bool = False


def rule_of(route: Route) -> Rule:
    """Return the rule of a route. Raises `ConfigurationError`."""
    lists = {name: getattr(route, name) for name in _LISTS}
    required = Requirements(issuer=route.issuer, audience=route.audience, max_age=route.max_age, **lists)
    if route.public and required != Requirements():
        raise ConfigurationError("a public route can't have requirements; remove `public` or the others")
    return Rule(required, route.public, route.cors_preflight)


class Rules:
    """The rules of a gateway. Rules parsed from texts are kept, up to a bound."""

    def __init__(self, routes: Mapping[str, Route], issuers: Collection[str]) -> None:
        """Parse the routes. `issuers` are the accepted ones. Raises `ConfigurationError`."""
        self._issuers = frozenset(issuers)
        self._routes: dict[str, Rule] = {}
        for name, route in routes.items():
            try:
                self._routes[name] = self._checked(rule_of(route))
            except ConfigurationError as error:
                raise ConfigurationError(f"routes.{name}: {error.message}") from None
        self._known: dict[frozenset[tuple[str, str]], Rule | None] = {}
        self._default = Rule(Requirements())

    def find(self, texts: Mapping[str, str]) -> Rule | None:
        """Return the rule for the texts of a proxy, such as Envoy's context extensions; None: they are wrong.

        A check without texts needs a valid token only.
        """
        if not texts:
            return self._default
        key = frozenset(texts.items())
        try:
            return self._known[key]
        except KeyError:
            pass
        rule: Rule | None
        try:
            rule = self._checked(self._parse(texts))
        except ConfigurationError as error:
            logger.error(  # noqa: TRY400  # a stack says nothing about a configuration
                "refused a request: the proxy asks for requirements that are wrong: %s; correct its configuration",
                error.message,
            )
            rule = None
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        if sum(len(name) + len(value) for name, value in key) <= _MAX_TEXT:
            self._known[key] = rule
        return rule

    def _parse(self, texts: Mapping[str, str]) -> Rule:
        unknown = texts.keys() - KEYS
        if unknown:
            raise ConfigurationError(f"{min(unknown)[:64]!r} is no key; known are {', '.join(sorted(KEYS))}")
        if "route" in texts:
            if len(texts) > 1:
                raise ConfigurationError("`route` can't be combined with other keys")
            rule = self._routes.get(texts["route"])
            if rule is None:
                raise ConfigurationError(f"there is no route {texts['route'][:64]!r}")
            return rule
        values: dict[str, object] = {name: tuple(texts[name].split()) for name in _LISTS if name in texts}
        for name in _TEXTS:
            if name in texts:
                if not texts[name]:
                    raise ConfigurationError(f"{name!r} is empty")
                values[name] = texts[name]
        for name in _FLAGS:
            if name in texts:
                if texts[name] not in _TRUTH:
                    raise ConfigurationError(f"{name!r} must be `true` or `false`")
                values[name] = _TRUTH[texts[name]]
        if "max_age" in texts:
            if not (texts["max_age"].isascii() and texts["max_age"].isdigit()):
                raise ConfigurationError("'max_age' must be a whole number of seconds")
            values["max_age"] = float(texts["max_age"])
        return rule_of(Route(**values))  # type: ignore[arg-type]

    def _checked(self, rule: Rule) -> Rule:
        issuer = rule.required.issuer
        if issuer is not None and issuer not in self._issuers:
            raise ConfigurationError(f"issuer {issuer[:128]!r} is none of the configured ones")
        return rule
