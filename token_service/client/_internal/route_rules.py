"""Rules that tell what each request of an HTTP service requires."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from token_service.client._internal.http_request import BadRequestError
from token_service.client._internal.request_path import is_plain
from token_service.client.requirements import Requirements
from token_service.errors import ConfigurationError

_RULE: Final = re.compile(r"(?:(?P<method>[A-Z]+) )?(?P<path>/[^*\s]*)(?P<all>\*)?")
_NEVER_IN_A_RULE: Final = re.compile(r"[{};?#]|%[0-9A-Fa-f]{2}")


class Route:
    """The requirements of requests, prepared for each of them. Equal requirements of one table are one object."""

    __slots__ = ("audience", "more", "requirements", "scopes")

    def __init__(self, requirements: Requirements, audience: str | None) -> None:
        self.requirements = requirements
        self.scopes = requirements.scopes
        self.audience = audience if requirements.audience is None else requirements.audience
        is_checked = requirements == Requirements(scopes=self.scopes, audience=requirements.audience)
        self.more = None if is_checked else requirements
        """The requirements, if the validator does not check all of them."""


class RouteRules:
    """A table of rules.

    A rule is `/path` or `METHOD /path` and covers this path alone, with or without a slash at its end. A rule that ends
    in `/*` covers the path and all paths below it. The longest matching path decides; a rule with a method has priority
    over a rule without one.
    """

    def __init__(
        self,
        required: Mapping[str, Collection[str] | Requirements],
        default: Collection[str] | Requirements,
        public: Collection[str],
        audience: str | None = None,
    ) -> None:
        """Prepare the rules. Raises `ConfigurationError` for a rule that matches no request or is ambiguous.

        `audience` is that of routes whose requirements name none.
        """
        self._audience = audience
        self._routes: dict[Requirements, Route] = {}
        self._exact: dict[tuple[str, str], Route | None] = {}
        self._below: dict[tuple[str, str], Route | None] = {}
        self._default = self._route("default_scopes", default)
        for rule, needed in required.items():
            self._add(rule, self._route(rule, needed))
        for rule in public:
            self._add(rule, None)

    def route(self, method: str, paths: Collection[str]) -> Route | None:
        """Return what a request requires; None: it is public.

        `paths` are all readings of its path. Raises `BadRequestError`.
        """
        if method != method.upper():
            raise BadRequestError("the method is not in upper case")
        found = {self._find(method, path) for path in paths}
        if len(found) != 1:
            raise BadRequestError("the path can be read in more than one way")
        return found.pop()

    def _route(self, rule: str, needed: Collection[str] | Requirements) -> Route:
        if not isinstance(needed, Requirements):
            try:
                needed = Requirements(scopes=needed)
            except ConfigurationError as error:
                raise ConfigurationError(f"the scopes of {rule}: {error.message}") from None
        return self._routes.setdefault(needed, Route(needed, self._audience))

    def _add(self, rule: str, route: Route | None) -> None:
        match = _RULE.fullmatch(rule)
        if match is None or (match["all"] and not match["path"].endswith("/")):
            raise ConfigurationError(
                f"the rule {rule!r} must be `/path` or `/path/*`, optionally after `METHOD `"
            )
        if not is_plain(match["path"]) or _NEVER_IN_A_RULE.search(match["path"]):
            raise ConfigurationError(
                f"the rule {rule!r} matches no request: write the path decoded, without empty or dot segments,"
                " placeholders, `;`, `?` and `#`; `/path/*` covers all paths below"
            )
        table = self._below if match["all"] else self._exact
        key = (match["method"] or "", match["path"].rstrip("/"))
        if key in table:
            raise ConfigurationError(f"the rule {rule!r} occurs twice; remove one")
        table[key] = route

    def _find(self, method: str, path: str) -> Route | None:
        methods = ("HEAD", "GET", "") if method == "HEAD" else (method, "")
        at = path.rstrip("/")
        for name in methods:
            if (name, at) in self._exact:
                return self._exact[name, at]
        while True:
            for name in methods:
                if (name, at) in self._below:
                    return self._below[name, at]
            if not at:
                return self._default
            at = at.rpartition("/")[0]
