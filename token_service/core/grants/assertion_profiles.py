"""The rules for the claims of an assertion, by its kind.

All kinds: RFC 7523, section 3. ID tokens: OpenID Connect Core 1.0, section 3.1.3.7. ID-JAGs:
draft-ietf-oauth-identity-assertion-authz-grant, section 4.4.1. Workload tokens: JWT-SVID, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from token_service.core.grants.trusted_issuers import AssertionKind, TrustedIssuer
from token_service.core.limits import MAX_TOKEN_ID
from token_service.tokens.assertions import audiences
from token_service.tokens.verifier import EARLY_LEEWAY


class Presented(NamedTuple):
    """The claims of a verified assertion, and what they are judged by."""

    kind: AssertionKind
    claims: Mapping[str, Any]
    issuer: TrustedIssuer
    client_id: str
    """The client that presents the assertion."""
    accepted: tuple[str, ...]
    """The values that `aud` may have."""
    now: float

    def text(self, name: str) -> str:
        """Return a claim that is a text; empty otherwise."""
        value = self.claims.get(name)
        return value if isinstance(value, str) else ""

    def time(self, name: str) -> float | None:
        """Return a claim that is a time; None otherwise."""
        value = self.claims.get(name)
        return float(value) if type(value) in {int, float} else None  # type: ignore[arg-type]  # a number


def problem_of(presented: Presented) -> str:
    """Return how an assertion breaks the rules of its kind; empty: it does not. The text repeats no claim."""
    return next((problem for rule in _RULES[presented.kind] if (problem := rule(presented))), "")


def _subject(it: Presented) -> str:
    return "" if it.text("sub") else "it lacks sub"


def _audience(it: Presented) -> str:
    """Every value of `aud` must be accepted: whom else the issuer names could present the assertion, too."""
    named = audiences(dict(it.claims))
    return "" if named and set(named).issubset(it.accepted) else "it is for another audience"


def _age(it: Presented) -> str:
    issued = it.time("iat")
    if issued is None:
        return "it lacks iat"
    return (
        f"it was issued more than {it.issuer.max_age:g} s ago" if it.now - issued > it.issuer.max_age else ""
    )


def _token_id(it: Presented) -> str:
    return f"its jti is longer than {MAX_TOKEN_ID} characters" if len(it.text("jti")) > MAX_TOKEN_ID else ""


def _unbound(it: Presented) -> str:
    """No proof of possession is checked here, so a bound assertion must not be taken as a bearer assertion."""
    return "it is bound to a key (cnf), and no proof of this key is accepted" if "cnf" in it.claims else ""


def _no_actor(it: Presented) -> str:
    """Dropping `act` would turn delegation into impersonation, and copying it would let another system name actors."""
    return "it has an actor (act); use token exchange for delegation" if "act" in it.claims else ""


def _authentication(it: Presented) -> str:
    authenticated = it.time("auth_time")
    if authenticated is not None and authenticated > it.now + EARLY_LEEWAY:
        return "its auth_time is ahead"
    longest = it.issuer.max_auth_age
    if longest is None:
        return ""
    if authenticated is None:
        return "it lacks auth_time"
    return (
        f"its subject authenticated more than {longest:g} s ago" if it.now - authenticated > longest else ""
    )


def _authorized_party(it: Presented) -> str:
    if "azp" not in it.claims or it.text("azp") in it.accepted:
        return ""
    return "its azp is another application"


def _is_id_token(it: Presented) -> str:
    """Access tokens and logout tokens of many issuers have the `typ` and the `aud` of ID tokens."""
    foreign = {"events", "scope", "scp"}.intersection(it.claims)
    if foreign:
        return f"it has {min(foreign)}, so it is no ID token"
    return "" if it.claims.get("token_use", "id") == "id" else "its token_use is not id"


def _requires_token_id(it: Presented) -> str:
    return "" if it.text("jti") else "it lacks jti"


def _one_audience(it: Presented) -> str:
    return "" if len(audiences(dict(it.claims))) == 1 else "its aud names more than one audience"


def _same_client(it: Presented) -> str:
    return "" if it.text("client_id") == it.client_id else "its client_id is not the client that presents it"


def _tenant(it: Presented) -> str:
    """`sub` is unique only within a tenant, if the assertion names one."""
    missing = {"tenant", "aud_tenant"}.intersection(it.claims) - it.issuer.subject.claims
    return f"it has {min(missing)}, which the subject setting of its issuer lacks" if missing else ""


def _no_details(it: Presented) -> str:
    return (
        "it has authorization_details, which are not supported"
        if "authorization_details" in it.claims
        else ""
    )


_COMMON: Final = (_subject, _audience, _age, _token_id, _unbound, _no_actor, _authentication)
_RULES: Final[Mapping[AssertionKind, tuple[Callable[[Presented], str], ...]]] = MappingProxyType(
    {
        AssertionKind.ID_TOKEN: (*_COMMON, _authorized_party, _is_id_token),
        AssertionKind.ID_JAG: (
            *_COMMON,
            _requires_token_id,
            _one_audience,
            _same_client,
            _tenant,
            _no_details,
        ),
        AssertionKind.WORKLOAD: _COMMON,
    }
)
