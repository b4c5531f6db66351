"""The upstream `oidc`: the authorization code flow with PKCE at an OpenID Connect provider.

Nonce and code verifier follow from the secret of the login, so a code or an ID token of another login, another browser
or another provider is refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from token_service.clock import Clock
from token_service.core.access.foreign_issuers import MAX_LIFETIME
from token_service.core.grants.subjects import auth_context_of
from token_service.core.issuing.issuer import check_auth_context
from token_service.core.limits import MAX_SUBJECT, MAX_TOKEN_ID, Checks
from token_service.core.login.logins import LOGIN_TTL
from token_service.core.login.oidc_provider import Provider, ProviderMetadata, ProviderRefusedError
from token_service.core.login.oidc_settings import OidcSettings
from token_service.core.login.requests import Prompt
from token_service.core.login.upstream import Authenticated, Login
from token_service.core.policies.custom_claims import check_identity_claims
from token_service.core.sessions.session import Session
from token_service.errors import (
    AccessDeniedError,
    AuthenticationInsufficientError,
    ConsentRequiredError,
    GrantInvalidError,
    InvalidRequestError,
    InvalidTokenError,
    LoginRequiredError,
    ServiceError,
    UpstreamUnavailableError,
)
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.assertions import (
    ASSERTION_ALGORITHMS,
    UnverifiedAssertion,
    audiences,
    parse_assertion,
    verify_assertion,
)
from token_service.tokens.claims import MAX_NUMERIC_DATE, AuthContext
from token_service.tokens.verifier import EARLY_LEEWAY

MAX_IDENTITY_BYTES: Final = 2048
"""Bytes of JSON of the kept claims. The code carries them through the browser."""
_ERRORS: Final[Mapping[str, type[ServiceError]]] = {
    "access_denied": AccessDeniedError,
    "login_required": LoginRequiredError,
    "interaction_required": LoginRequiredError,
    "account_selection_required": LoginRequiredError,
    "consent_required": ConsentRequiredError,
    "unmet_authentication_requirements": AuthenticationInsufficientError,
}
"""Errors of the provider that the client has to know (OpenID Connect Core 1.0, section 3.1.2.6)."""
_ERROR_MESSAGES: Final[Mapping[type[ServiceError], str]] = {
    AccessDeniedError: "the identity provider refused the login",
    LoginRequiredError: "the identity provider has to interact with the user",
    ConsentRequiredError: "the identity provider needs the consent of the user",
    AuthenticationInsufficientError: "the identity provider can't authenticate the user as requested",
}


class OidcUpstream:
    """Sends browsers to an OpenID Connect provider. See `Upstream`."""

    def __init__(self, settings: OidcSettings, provider: Provider, clock: Clock, *, service: str) -> None:
        """`service`: the issuer of this service, below which its callback is."""
        self.settings = settings
        self._provider = provider
        self._clock = clock
        self._redirect_uri = f"{service.rstrip('/')}/callback/{settings.name}"

    async def login_url(self, login: Login) -> str:
        """See `Upstream.login_url`."""
        request = login.request
        parameters = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self.settings.scopes),
            "state": login.id,
            "nonce": _derive(login, "nonce"),
            "code_challenge": base64url.encode(hashlib.sha256(_derive(login, "verifier").encode()).digest()),
            "code_challenge_method": "S256",
        }
        if request.prompts:
            parameters["prompt"] = " ".join(request.prompts)
        max_age = request.max_age
        if max_age is None and Prompt.LOGIN in request.prompts:
            max_age = int(LOGIN_TTL)  # only with max_age must the ID token have auth_time, which is checked
        if max_age is not None:
            parameters["max_age"] = str(max_age)
        if request.acr_values:
            acr_values = self.settings.acrs_there(request.acr_values)
            if not acr_values:
                raise AuthenticationInsufficientError("the upstream has none of the requested acr_values")
            parameters["acr_values"] = " ".join(acr_values)
        if request.login_hint:
            parameters["login_hint"] = request.login_hint
        metadata = await self._provider.discover()
        return _with_query(metadata.authorization_endpoint, parameters)

    async def complete(self, login: Login, parameters: Mapping[str, str]) -> Authenticated:
        """See `Upstream.complete`."""
        metadata = await self._provider.discover()
        self._check_issuer(metadata, parameters)
        if "error" in parameters:
            raise _error_of(parameters["error"])
        code = parameters.get("code")
        if not code:
            raise _refused("it has no code")
        answer = await self._exchange(login, code)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str):
            raise _refused("the token endpoint gave no ID token")
        claims = await self._verified(id_token, access_token, login)
        described: Mapping[str, Any] = claims
        if self.settings.userinfo:
            described = {**await self._userinfo(access_token, claims["sub"]), **claims}
        return self._user(login, claims, described)

    async def logout_url(self, session: Session, return_to: str, state: str) -> str | None:
        """See `Upstream.logout_url` (OpenID Connect RP-Initiated Logout 1.0, section 2)."""
        try:
            endpoint = (await self._provider.discover()).end_session_endpoint
        except UpstreamUnavailableError:
            return None
        if not endpoint:
            return None
        parameters = {
            "client_id": self.settings.client_id,
            "post_logout_redirect_uri": return_to,
            "state": state,
        }
        if session.upstream_session:
            parameters["logout_hint"] = session.upstream_session
        return _with_query(endpoint, parameters)

    async def verify_logout_token(self, parsed: UnverifiedAssertion, now: float) -> Mapping[str, Any]:
        """Return the claims of a JWT of this provider for this service, after checks of signature, times, `iss`, `aud`.

        Raises `InvalidTokenError`, `ForeignKeysUnavailableError`, and `ValueError` with the problem.
        """
        claims = verify_assertion(
            parsed,
            await self._provider.keys(parsed.key_id),
            now=now,
            max_lifetime=MAX_LIFETIME,
            types=("logout+jwt", "JWT"),
        )
        self._check_parties(claims)
        return claims

    def _check_issuer(self, metadata: ProviderMetadata, parameters: Mapping[str, str]) -> None:
        """Raise unless the response is from the provider that was asked (RFC 9207, section 2.4)."""
        issuer = parameters.get("iss")
        if issuer is None and metadata.names_issuer:
            raise _refused("it lacks iss, which the identity provider announces")
        if issuer is not None and issuer != self.settings.issuer:
            raise _refused("its iss is another issuer")

    async def _exchange(self, login: Login, code: str) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": _derive(login, "verifier"),
        }
        try:
            return await self._provider.exchange(form)
        except ProviderRefusedError as error:
            if error.code == "invalid_grant":
                raise _refused("the identity provider does not accept its code") from None
            raise UpstreamUnavailableError(
                "the identity provider refused this service; the log of the service says why"
            ) from None

    async def _verified(self, id_token: str, access_token: Any, login: Login) -> dict[str, Any]:
        """Return the claims of an ID token (OpenID Connect Core 1.0, section 3.1.3.7)."""
        now = self._clock.now()
        try:
            parsed = parse_assertion(id_token)
            key_set = await self._provider.keys(parsed.key_id)
            claims = verify_assertion(parsed, key_set, now=now, max_lifetime=MAX_LIFETIME)
            self._check_parties(claims)
            _check_token(claims, login, now)
            _check_hash(claims, parsed.header.get("alg"), access_token)
        except InvalidTokenError as error:
            raise _refused(f"the ID token is not accepted: {error.message}") from None
        except ValueError as error:
            raise _refused(f"the ID token is not accepted: {error}") from None
        return claims

    def _check_parties(self, claims: Mapping[str, Any]) -> None:
        """Raise `ValueError` unless a token is from this provider and for this service only."""
        if claims.get("iss") != self.settings.issuer:
            raise ValueError("iss is another issuer")
        audience = audiences(dict(claims))
        if self.settings.client_id not in audience:
            raise ValueError("aud is another client")
        if (len(set(audience)) > 1 or "azp" in claims) and claims.get("azp") != self.settings.client_id:
            raise ValueError("azp is another client")

    async def _userinfo(self, access_token: Any, subject: str) -> Mapping[str, Any]:
        """Return the claims of the userinfo endpoint about the same user (OpenID Connect Core 1.0, section 5.3.2)."""
        if not isinstance(access_token, str) or not access_token:
            raise _refused("the token endpoint gave no access token")
        claims = await self._provider.userinfo(access_token)
        if claims.get("sub") != subject:
            raise _refused("the userinfo endpoint describes another user")
        return claims

    def _user(self, login: Login, claims: Mapping[str, Any], described: Mapping[str, Any]) -> Authenticated:
        """Return the user. `claims` are those of the ID token, which alone tells how the user was authenticated."""
        settings = self.settings
        try:
            subject = settings.subject.of(described)
        except ValueError as error:
            raise _refused(f"the ID token is not accepted: {error}") from None
        if subject == login.request.client_id:
            # The tokens of this user would act here as the client (see `gate.admit_as_client`).
            raise _refused("its user would be the client itself")
        found = auth_context_of(claims)
        context = None
        if found is not None:
            context = AuthContext(settings.acr_here(found.acr), found.amr, found.auth_time)
        kept = {name: described[name] for name in settings.identity_claims if described.get(name) is not None}
        checks = Checks()
        checks.text("subject", subject, MAX_SUBJECT, required=True)
        check_auth_context(checks, context)
        try:
            checks.done()
        except InvalidRequestError as error:
            raise _refused(error.message) from None
        check_identity_claims(kept, MAX_IDENTITY_BYTES)
        session = claims.get("sid")
        return Authenticated(
            subject=subject,
            auth_context=None if context == AuthContext() else context,
            custom_claims={
                each.target: held for each in settings.memberships if (held := each.of(described))
            },
            identity_claims=kept,
            upstream_session=session if isinstance(session, str) and len(session) <= MAX_TOKEN_ID else "",
        )


def _check_token(claims: Mapping[str, Any], login: Login, now: float) -> None:
    """Raise `ValueError` unless an ID token is of this login."""
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(
        nonce.encode("utf-8", "replace"), _derive(login, "nonce").encode()
    ):
        raise ValueError("nonce is of another login")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise ValueError("sub is missing")
    issue_time = claims.get("iat")
    if not isinstance(issue_time, int | float):  # `verify_assertion` has checked a given one
        raise ValueError("iat is missing")
    if issue_time < now - LOGIN_TTL - EARLY_LEEWAY:
        raise ValueError("iat is before the login began")
    auth_time = claims.get("auth_time")
    if auth_time is None:
        if login.request.max_age is not None:
            raise ValueError("auth_time is missing, and max_age was asked for")
    elif type(auth_time) not in {int, float} or not 0 <= auth_time <= min(
        now + EARLY_LEEWAY, MAX_NUMERIC_DATE
    ):
        raise ValueError("auth_time is no time in the past")


def _check_hash(claims: Mapping[str, Any], algorithm: Any, access_token: Any) -> None:
    """Raise `ValueError` unless `at_hash`, if given, is of the access token (OpenID Connect Core 1.0, section 3.1.3.6)."""
    if "at_hash" not in claims:
        return
    name = "sha512" if ASSERTION_ALGORITHMS[algorithm] is Algorithm.EDDSA else "sha256"
    digest = hashlib.new(name, access_token.encode() if isinstance(access_token, str) else b"").digest()
    if claims["at_hash"] != base64url.encode(digest[: len(digest) // 2]):
        raise ValueError("at_hash is of another access token")


def _derive(login: Login, purpose: str) -> str:
    """Return a value of 43 characters that only the holder of the secret of a login can know."""
    return base64url.encode(hmac.digest(login.secret.encode(), f"oidc {purpose}".encode(), "sha256"))


def _error_of(code: str) -> ServiceError:
    """Return the error for an error response. Its text is ours, because an attacker may have written that of the response."""
    kind = _ERRORS.get(code)
    if kind is not None:
        return kind(_ERROR_MESSAGES[kind])
    if code in {"temporarily_unavailable", "server_error"}:
        return UpstreamUnavailableError("the identity provider is not available at the moment")
    return UpstreamUnavailableError("the identity provider refused the request of this service")


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def _refused(problem: str) -> GrantInvalidError:
    return GrantInvalidError(f"the answer of the identity provider is not accepted: {problem}")
