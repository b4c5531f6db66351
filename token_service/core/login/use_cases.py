"""The use cases of logins at one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from token_service.core.clients.admission import ClientAdmission
from token_service.core.entropy import Entropy
from token_service.core.grants.codes import Codes
from token_service.core.grants.registration import Registration
from token_service.core.keys.sealer import Sealer
from token_service.core.login.challenge import ChallengeUpstream, LoginChallenges
from token_service.core.login.logins import Logins
from token_service.core.login.pushed import PushedRequests
from token_service.core.login.requests import AuthorizationRequests
from token_service.core.login.step_up import LoginHints, StepUps
from token_service.core.login.upstream import Upstream
from token_service.core.sessions.store import SessionStore


class Upstreams:
    """The upstreams of a node, the default one first. `current` may be replaced at any time."""

    def __init__(self, challenges: Sealer, verdicts: Sealer) -> None:
        self._challenges = challenges
        self._verdicts = verdicts
        self.current: Mapping[str, Upstream] = {}

    def challenge(self, url: str) -> Upstream:
        """Return the upstream of a login service with a page at `url`."""
        return ChallengeUpstream(url, self._challenges, self._verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginUseCases:
    """What the edges call."""

    requests: AuthorizationRequests
    pushed: PushedRequests
    logins: Logins
    challenges: LoginChallenges
    upstreams: Upstreams


def make_login_use_cases(
    clients: ClientAdmission,
    registration: Registration,
    codes: Codes,
    sealer: Callable[[str], Sealer],
    entropy: Entropy,
    revision: Callable[[], int],
    hints: LoginHints,
    sessions: SessionStore,
    *,
    issuer: str,
) -> LoginUseCases:
    """Compose the use cases. `sealer` returns the sealer for a purpose; `revision` the known head of the log."""
    challenges, verdicts = sealer("login challenge"), sealer("login verdict")
    upstreams = Upstreams(challenges, verdicts)
    return LoginUseCases(
        requests=AuthorizationRequests(clients, registration, hints.read),
        pushed=PushedRequests(sealer("pushed request")),
        logins=Logins(
            clients,
            codes,
            sealer("login"),
            entropy,
            revision,
            lambda: upstreams.current,
            StepUps(sessions),
        ),
        challenges=LoginChallenges(clients, challenges, verdicts, issuer=issuer),
        upstreams=upstreams,
    )
