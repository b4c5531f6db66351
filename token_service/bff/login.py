"""Login: the way to the provider, and the callback (RFC 6749, section 4.1; OpenID Connect Core 1.0, section 3.1)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from token_service.bff.browser_origin import origin_headers
from token_service.bff.config import BffConfig, SameSite
from token_service.bff.cookies import MAX_LOGINS, Cookies
from token_service.bff.exchange import (
    BadRequestError,
    Response,
    Scope,
    header,
    onward_page,
    page,
    query,
    redirect,
)
from token_service.bff.failures import GrantRefusedError, LoginFailedError, ProviderUnavailableError
from token_service.bff.login_state import LOGIN_TTL, LoginState, is_state_of, open_login, seal_login
from token_service.bff.provider import OpenIdProvider
from token_service.bff.return_to import is_own_path
from token_service.bff.sessions import Sessions, key_of
from token_service.clock import Clock
from token_service.errors import InvalidTokenError, StoreUnavailableError

_MAX_CODE: Final = 4096
_ERROR: Final = re.compile(r"[a-z_]{1,40}")

logger = logging.getLogger(__name__)


class Login:
    """The endpoints `login` and `callback`."""

    def __init__(
        self, config: BffConfig, provider: OpenIdProvider, sessions: Sessions, cookies: Cookies, clock: Clock
    ) -> None:
        self._config = config
        self._issuer = config.provider.issuer
        self._keys = config.sealing_keys
        self._provider = provider
        self._sessions = sessions
        self._cookies = cookies
        self._clock = clock

    async def begin(self, scope: Scope) -> Response:
        """Send the browser to the provider. Raises `BadRequestError` or `ProviderUnavailableError`."""
        if header(scope, b"sec-fetch-mode") not in {None, "navigate"}:
            raise BadRequestError("a login is a navigation; a script must set location instead of fetching")
        return_to = query(scope).get("return_to", "/")
        if not is_own_path(return_to, self._config.prefix):
            raise BadRequestError("return_to must be a path of this application, such as /orders?page=2")
        now = self._clock.now()
        login = LoginState.begin(return_to, self._issuer, self._session_key(scope), now)
        url = await self._provider.authorization_url(
            {
                "redirect_uri": self._config.redirect_uri,
                "state": login.state,
                "nonce": login.nonce,
                "code_challenge": login.challenge,
                "code_challenge_method": "S256",
            }
        )
        sealed = seal_login(login, self._keys)
        return redirect(
            url, self._cookies.set_login(login.state, sealed, LOGIN_TTL), *self._without_old(scope, now)
        )

    async def complete(self, scope: Scope) -> Response:
        """Complete a login and begin a session, which replaces the previous one of this browser.

        A callback that no login of this browser waits for gets a page: it is forged, replayed or late. Raises
        `BadRequestError`.
        """
        parameters = query(scope)
        now = self._clock.now()
        state = parameters.get("state", "")
        login = open_login(self._cookies.login(scope, state), self._keys, now)
        if login is None or not is_state_of(login, state, self._issuer):
            return page(
                400, "This login was not begun in this browser, or too long ago.", self._again("/"), "Log in"
            )
        used = self._cookies.delete_login(state)
        again = self._again(login.return_to)
        try:
            await self._require_issuer(parameters)
            # Before the code is sent, because a provider revokes the tokens of a code that it sees twice.
            if not await self._sessions.use_state(state, login.expire_time, now):
                raise LoginFailedError("This login was completed before.")
            session_id = await self._log_in(parameters, login, origin_headers(scope, self._config.provider))
            for previous in {login.previous, self._session_key(scope)} - {""}:
                await self._sessions.store.delete(previous)
        except LoginFailedError as error:
            return page(400, error.message, again, "Log in again", used)
        except (ProviderUnavailableError, StoreUnavailableError) as error:
            logger.warning("a login failed: %s", error.message)
            seconds = error.retry_after or 1.0
            return page(
                503,
                "The login is not available at the moment.",
                again,
                "Try again",
                used,
                retry_after=seconds,
            )
        set_session = self._cookies.set_session(session_id)
        if self._config.requests.same_site is SameSite.STRICT:
            return onward_page(login.return_to, set_session, used)
        return redirect(login.return_to, set_session, used)

    async def _require_issuer(self, parameters: dict[str, str]) -> None:
        """Refuse the answer of another provider (RFC 9207, section 2.4)."""
        required = (await self._provider.metadata()).names_issuer
        if ("iss" in parameters or required) and parameters.get("iss") != self._issuer:
            logger.warning("a login was refused: its answer names another issuer")
            raise LoginFailedError("The answer came from another login service.")

    async def _log_in(self, parameters: dict[str, str], login: LoginState, origin: Mapping[str, str]) -> str:
        """Redeem the code, and return the id of a new session."""
        if "error" in parameters:
            error = parameters["error"]
            shown = f" ({error})" if _ERROR.fullmatch(error) else ""
            raise LoginFailedError(f"The login service refused the login{shown}.")
        code = parameters.get("code", "")
        if not 0 < len(code) <= _MAX_CODE:
            raise LoginFailedError("The answer of the login service has no code.")
        sent_at = self._clock.now()
        try:
            tokens = await self._provider.redeem(code, self._config.redirect_uri, login.verifier, origin)
        except GrantRefusedError:
            raise LoginFailedError("The login service refused the code.") from None
        claims = await self._claims(tokens.id_token, login.nonce)
        return await self._sessions.create(claims, tokens, sent_at, self._clock.now())

    async def _claims(self, id_token: str | None, nonce: str) -> dict[str, Any]:
        if id_token is None:
            raise ProviderUnavailableError("the provider issued no ID token")
        try:
            return await self._provider.id_token_claims(id_token, nonce=nonce)
        except InvalidTokenError as error:
            logger.warning("a login was refused: its ID token is invalid: %s", error.message)
            raise LoginFailedError("The answer of the login service is not valid.") from None

    def _session_key(self, scope: Scope) -> str:
        """Return the key of the session of a request; empty without one."""
        session_id = self._cookies.session_id(scope)
        return "" if session_id is None else key_of(session_id)

    def _again(self, return_to: str) -> str:
        return f"{self._config.prefix}/login?return_to={quote(return_to, safe='')}"

    def _without_old(self, scope: Scope, now: float) -> list[str]:
        """Return headers that delete the login cookies beyond the limit: unusable ones, then the oldest."""
        begun = []
        deleted = []
        for name, value in self._cookies.login_names(scope):
            login = open_login(value, self._keys, now)
            if login is None:
                deleted.append(name)
            else:
                begun.append((login.expire_time, name))
        begun.sort(reverse=True)
        deleted += [name for _, name in begun[MAX_LOGINS - 1 :]]
        return [self._cookies.delete(name) for name in deleted]
