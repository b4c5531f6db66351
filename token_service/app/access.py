"""Callers, their rights and the policies, from files that are reloaded while the node runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from cryptography.x509 import Certificate

from token_service.clock import Clock
from token_service.config import Settings
from token_service.config.policy_file import PolicyDocument, PolicyFile
from token_service.core.policies.policy import Policies
from token_service.rpc.server.authorizer import Authorizer, CertificateAuthorizer, TrustingAuthorizer
from token_service.rpc.server.client_authorities import ClientAuthorities


class Access:
    """The policies and the authorizer of a node. `background` keeps both up to date."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock) -> None:
        """Read the files. Raises `ConfigurationError`."""
        self.policy_file = PolicyFile.of(settings, environ)
        document = self.policy_file.load()
        self.policies = Policies(document.book)
        self._authorities: ClientAuthorities | None = None
        self._certificates: CertificateAuthorizer | None = None
        if settings.is_production:
            assert settings.tls_client_ca_file is not None  # the settings require it
            self._authorities = ClientAuthorities(settings.tls_client_ca_file)
            self._certificates = CertificateAuthorizer(document.callers, self._authorities.load(), clock)
        self.authorizer: Authorizer = self._certificates or TrustingAuthorizer()

    def background(self) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return the background tasks by name. Each runs until it is cancelled."""
        tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "policy-file": lambda: self.policy_file.watch(self._policies_changed)
        }
        if (authorities := self._authorities) is not None:
            tasks["client-authorities"] = lambda: authorities.watch(self._authorities_changed)
        return tasks

    def _policies_changed(self, document: PolicyDocument) -> None:
        self.policies.book = document.book
        if self._certificates is not None:
            self._certificates.callers = document.callers

    def _authorities_changed(self, authorities: Sequence[Certificate]) -> None:
        assert self._certificates is not None
        self._certificates.authorities = authorities
