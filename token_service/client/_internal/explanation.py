"""Explanations for operators: why a validator accepts or rejects a token."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from token_service.client._internal.following.state import Feed, Standing
from token_service.client._internal.local import IssuerState
from token_service.client._internal.setup import Parts
from token_service.errors import InvalidTokenError, ValidatorForkedError
from token_service.tokens import base64url, strict_json
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.verifier import check_audience, check_scopes, check_times

_SHORT = 120


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `ok` is None if the validator could not make the check."""

    name: str
    ok: bool | None
    detail: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL' if self.ok is False else '-   '} {self.name}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """All checks of one token.

    `str()` returns a report with one line per check. No line contains a usable part of the token.
    """

    accepted: bool
    """Whether local state accepts the token, without a call to the token service."""
    checks: tuple[Check, ...]

    def __str__(self) -> str:
        return "\n".join(["accepted" if self.accepted else "not accepted", *map(str, self.checks)])


def explain(parts: Parts, token: str, audience: str | None, required_scopes: Collection[str]) -> Explanation:
    """Make every check for which local state is enough."""
    checks: list[Check] = [_header(token)]
    verifier = parts.local.verifier
    claims: VerifiedClaims | None = None
    try:
        claims = verifier.verify(token)
        checks.append(
            Check("signature", ok=True, detail=f"verified with key {claims.key_id} of {claims.issuer}")
        )
    except InvalidTokenError as error:
        detail = f"{error.reason.value}: {error.message}"
        issuer = verifier.unverified_issuer(token)
        if issuer is not None:
            known = [key.key_id for key in verifier.key_set(issuer)]
            detail += f"; keys known of {issuer}: {', '.join(known) or 'none yet'}"
        checks.append(Check("signature", ok=False, detail=detail))
    if claims is None:
        checks.extend(_connection(parts))
        return Explanation(accepted=False, checks=tuple(checks))
    verified = claims
    now, leeway = parts.clock.now(), parts.config.leeway
    checks.append(
        _attempt(
            "time",
            lambda: check_times(verified, now, leeway),
            f"not before {_time(max(verified.not_before, verified.issue_time))}, expires {_time(verified.expire_time)}, "
            f"now {_time(now)}, leeway {leeway:g} s",
        )
    )
    if audience is None:
        checks.append(Check("audience", ok=True, detail="every audience is accepted"))
    else:
        said = f"{audience!r} required, the token is for {_shown(verified.audience)}"
        checks.append(_attempt("audience", lambda: check_audience(verified, audience), said))
    state = parts.local.issuers[verified.issuer]
    revoked, fresh = _revoked_and_fresh(parts, state, verified)
    missing = sorted(set(required_scopes) - verified.scopes)
    said = f"missing {_shown(missing)}" if missing else f"has {_shown(sorted(verified.scopes))}"
    scope = _attempt("scope", lambda: check_scopes(verified, required_scopes), said)
    checks.extend((revoked, scope, fresh))
    checks.extend(_connection(parts))
    return Explanation(accepted=all(check.ok is not False for check in checks), checks=tuple(checks))


def _header(token: str) -> Check:
    try:
        header = strict_json.decode_object(base64url.decode(token.partition(".")[0].encode("ascii")))
    except (ValueError, AttributeError):
        return Check("header", ok=False, detail="not a JWS header")
    said = ", ".join(f"{name}={_shown(header.get(name))}" for name in ("typ", "alg", "kid"))
    return Check("header", ok=None, detail=f"{said} (unverified)")


def _revoked_and_fresh(parts: Parts, state: IssuerState, claims: VerifiedClaims) -> tuple[Check, Check]:
    """Check revocation and freshness as `LocalValidator.check` does.

    Both results belong to one version of the set, because a proof that arrives after the look-up does not cover the
    look-up.
    """
    while True:
        standing = parts.follower_state.standing if parts.follower_state is not None else None
        feed = state.feed if standing is None or state.freshness is None else standing.feed
        version = feed.revocations.version
        revoked, fresh = _revoked(state, feed, claims), _fresh(parts, state, standing)
        if feed.revocations.version == version:
            return revoked, fresh


def _revoked(state: IssuerState, feed: Feed, claims: VerifiedClaims) -> Check:
    if state.freshness is None:
        return Check("revocation", ok=True, detail="revocations of this issuer are not known")
    found = feed.revocations.find(claims)
    known = f"{len(feed.revocations)} live revocations known"
    if found is None:
        return Check("revocation", ok=True, detail=f"not revoked; {known}")
    return Check("revocation", ok=False, detail=f"revoked by its {found.name.lower()}; {known}")


def _fresh(parts: Parts, state: IssuerState, standing: Standing | None) -> Check:
    if state.freshness is None or standing is None:
        return Check("freshness", ok=True, detail="this issuer publishes no revocations here")
    elapsed = parts.clock.elapsed()
    proven = standing.feed.proven_at
    age = "never proven" if proven == float("-inf") else f"proven {elapsed - proven:.2f} s ago"
    detail = f"{age}, bound {state.freshness.bound:g} s, applied up to {standing.cursor or 'nothing'}"
    return Check("freshness", ok=standing.feed.is_fresh(parts.clock.now(), elapsed), detail=detail)


def _connection(parts: Parts) -> list[Check]:
    if parts.forked:
        return [Check("connection", ok=False, detail=ValidatorForkedError().message)]
    if parts.contact is None or parts.service is None:
        return []
    view = parts.contact.view()
    cause = parts.contact.cause(view)
    if cause is not None:
        return [Check("connection", ok=None, detail=cause.message)]
    if not view.outcomes.streaming:
        return [Check("connection", ok=None, detail="the revocation stream has delivered no message yet")]
    return [Check("connection", ok=True, detail=f"follows {parts.service.target or 'the given channel'}")]


def _attempt(name: str, check: Callable[[], None], detail: str) -> Check:
    try:
        check()
    except InvalidTokenError as error:
        return Check(name, ok=False, detail=f"{error.reason.value}; {detail}")
    return Check(name, ok=True, detail=detail)


def _time(value: float) -> str:
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
