"""The check of a request: route, path, token, requirements, proof of possession."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from token_service.client._internal.bearer import require_bearer
from token_service.client._internal.clock import ValidatorClock
from token_service.client._internal.http_refusals import Challenger, Refusal
from token_service.client.requirements import Requirements
from token_service.client.validator import TokenValidator
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidTokenError,
    OverloadedError,
    ReplicaStaleError,
    ValidatorForkedError,
)
from token_service.gateway.certificates import Certificates
from token_service.gateway.request import ClientRequest, credentials, readings_of
from token_service.gateway.routes import Rules
from token_service.gateway.verdict import PREFLIGHT, PUBLIC, Outcome, Verdict, refused, unavailable
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.possession import PossessionChecker, Presented, Scheme

logger = logging.getLogger(__name__)

_MISCONFIGURED: Final = Refusal(403, (), "forbidden")


@dataclass(frozen=True, slots=True, kw_only=True)
class Possession:
    """The proof of keys that tokens are bound to."""

    checker: PossessionChecker
    certificates: Certificates
    origin: str
    """Scheme and host of the public URLs; empty: not configured."""
    trust_host: bool
    """Believe scheme and host of each request if there is no `origin`."""

    @property
    def accepts_dpop(self) -> bool:
        """Whether DPoP proofs can be checked, because the URL of requests is known."""
        return bool(self.origin) or self.trust_host


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLimits:
    """Limits of checks."""

    deadline: float
    concurrent: int
    allow_second_readings: bool


class Checker:
    """Checks requests. It never raises an error for a request: what it can't judge is not allowed."""

    def __init__(
        self,
        validator: TokenValidator,
        clock: ValidatorClock,
        rules: Rules,
        challenger: Challenger,
        possession: Possession,
        limits: CheckLimits,
    ) -> None:
        self._validate = validator.validate
        self._counters = validator.counters
        self._clock = clock
        self._rules = rules
        self._challenger = challenger
        self._possession = possession
        self._limits = limits
        self.waiting = 0
        """Checks in progress."""

    async def check(self, request: ClientRequest) -> Verdict:
        """Return the verdict on a request."""
        if self.waiting >= self._limits.concurrent:
            return unavailable("overloaded")
        self.waiting += 1
        try:
            return await self._check(request)
        except Exception:
            logger.exception(
                "a check failed, and its request was refused; this is a defect, please report it"
            )
            return unavailable("internal")
        finally:
            self.waiting -= 1

    async def _check(self, request: ClientRequest) -> Verdict:
        rule = self._rules.find(request.texts)
        if rule is None:
            return refused("misconfigured", _MISCONFIGURED)
        readings = readings_of(request.path)
        if readings != 1 and (readings == 0 or not self._limits.allow_second_readings):
            return refused("ambiguous_path", Refusal(400, (), "the path can be read in more than one way"))
        if request.method != request.method.upper() or not request.method:
            return refused("bad_method", Refusal(400, (), "the method is not in upper case"))
        if request.misleading:
            return refused(
                "misleading_header", Refusal(400, (), "a header name with an underscore is not allowed")
            )
        if rule.public:
            return PUBLIC
        if rule.cors_preflight and request.is_preflight:
            return PREFLIGHT
        required = rule.required
        try:
            presented = credentials(request.authorization) if request.authorization is not None else None
            if presented is None:
                raise CallerUnauthenticatedError("an access token is needed")
            scheme, token = presented
            async with asyncio.timeout(self._limits.deadline):
                claims = await self._validate(
                    token, audience=required.audience, required_scopes=required.scopes
                )
            try:
                required.check(claims, self._clock.now())
                if claims.confirmation or scheme is not Scheme.BEARER:
                    return self._check_possession(request, scheme, token, claims)
            except InvalidTokenError as error:
                # The validator counts only what it refuses itself.
                self._counters.rejected[error.reason.value] += 1
                raise
            return Verdict(Outcome.ALLOWED, "valid", claims)
        except (InvalidTokenError, CallerUnauthenticatedError) as error:
            logger.debug("refused %s: %s", request.method, error.message)
            reason = error.reason.value.lower() if isinstance(error, InvalidTokenError) else "no_token"
            return refused(reason, self._refusal(error, required))
        except (ReplicaStaleError, ValidatorForkedError):
            return unavailable("stale")
        except OverloadedError:
            return unavailable("overloaded")
        except TimeoutError:
            return unavailable("deadline")

    def _check_possession(
        self, request: ClientRequest, scheme: Scheme, token: str, claims: VerifiedClaims
    ) -> Verdict:
        possession, confirmation, now = self._possession, claims.confirmation, self._clock.now()
        if confirmation.jkt and not possession.accepts_dpop:
            require_bearer(claims)
        proof = Presented(
            dpop_proof=request.dpop,
            method=request.method,
            uri=(possession.origin or f"{request.scheme}://{request.host}") + request.path,
            certificate_thumbprint=possession.certificates.thumbprint(request.certificate)
            if confirmation.x5t_s256
            else "",
        )
        possession.checker.check(
            confirmation, token, proof, scheme=scheme, now=now, elapsed=self._clock.elapsed()
        )
        nonces = possession.checker.nonces
        fresh = nonces.current(now) if nonces is not None and confirmation.jkt else None
        return Verdict(Outcome.ALLOWED, "valid", claims, nonce=fresh)

    def _refusal(
        self, error: InvalidTokenError | CallerUnauthenticatedError, required: Requirements
    ) -> Refusal:
        nonces = self._possession.checker.nonces
        nonce = nonces.current(self._clock.now()) if nonces is not None else None
        return _with_one_challenge(self._challenger.refusal(error, required, nonce))


def _with_one_challenge(refusal: Refusal) -> Refusal:
    """Join the challenges in one header, because proxies keep only one of several (RFC 9110, section 11.6.1)."""
    challenges = [value for name, value in refusal.headers if name == "www-authenticate"]
    others = tuple((name, value) for name, value in refusal.headers if name != "www-authenticate")
    return Refusal(refusal.status, (("www-authenticate", ", ".join(challenges)), *others), refusal.body)
