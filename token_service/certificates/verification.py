"""Verification of client certificates under the current authorities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509

from token_service.certificates.client import (
    CertificateError,
    CertificateNames,
    load_chain,
    names_of,
    require_short,
    vouched_until,
)
from token_service.clock import Clock
from token_service.core.access.certificates import CertifiedNames
from token_service.core.access.names import is_spiffe_id
from token_service.core.clients.uris import is_dns_name
from token_service.errors import CallerUnauthenticatedError

_MAX_KNOWN: Final = 1024


class CertificateVerifier:
    """Verifies client certificates at every call: an established connection or TLS session grants nothing.

    The certificate must be within its validity period, and a current authority must vouch for it.
    """

    def __init__(self, authorities: Sequence[x509.Certificate], clock: Clock) -> None:
        self._authorities = authorities
        self._clock = clock
        self._known: dict[bytes, CertifiedNames | str] = {}
        """Names by chain, or the reason for refusal."""
        self._listeners: list[Callable[[], None]] = []

    @property
    def authorities(self) -> Sequence[x509.Certificate]:
        """The accepted certificate authorities. May be replaced at any time."""
        return self._authorities

    @authorities.setter
    def authorities(self, authorities: Sequence[x509.Certificate]) -> None:
        self._authorities = authorities
        self._known = {}
        for listener in self._listeners:
            listener()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the authorities are replaced."""
        self._listeners.append(listener)

    def verify(self, chain: bytes) -> CertifiedNames:
        """See `ClientCertificates.verify`."""
        if not chain:
            raise CallerUnauthenticatedError(
                "a client certificate with a SPIFFE ID or a DNS name is required"
            )
        known = self._known.get(chain)
        if known is None:
            known = self._examine(chain)
        if isinstance(known, str):
            raise CallerUnauthenticatedError(known)
        now = self._clock.now()
        if now >= known.expire_time:
            raise CallerUnauthenticatedError("the client certificate has expired; renew it and connect again")
        if now < known.begin_time:
            raise CallerUnauthenticatedError("the client certificate is not valid yet")
        return known

    def _examine(self, pem: bytes) -> CertifiedNames | str:
        try:
            require_short(pem)  # before it is remembered, even as refused
        except CertificateError as error:
            return str(error)
        examined: CertifiedNames | str
        try:
            chain = load_chain(pem)
            expire_time = vouched_until(chain, self._authorities)
            if expire_time is None:
                raise CertificateError("the authority of the client certificate is not accepted any more")
            begin_time = chain[0].not_valid_before_utc.timestamp()
            examined = CertifiedNames(_valid(names_of(chain[0])), begin_time, expire_time)
        except CertificateError as error:
            examined = str(error)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[pem] = examined
        return examined


def _valid(names: CertificateNames) -> tuple[str, ...]:
    if names.spiffe_id is not None and not is_spiffe_id(names.spiffe_id):
        raise CertificateError("the URI in the client certificate is not a valid SPIFFE ID")
    if not all(map(is_dns_name, names.dns_names)):
        raise CertificateError("a DNS name in the client certificate is not a valid one")
    valid = (*((names.spiffe_id,) if names.spiffe_id is not None else ()), *names.dns_names)
    if not valid:
        raise CertificateError("the client certificate has neither a SPIFFE ID nor a DNS name")
    return valid
