"""`token-service config --check`: checks the environment of a node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from token_service.app.access import require_classification
from token_service.app.adapters import open_stores, pkcs11_keys, redis_adapters
from token_service.app.edges import http_tls, tls_files
from token_service.app.issuer_keys import IssuerKeys, trusted_issuers
from token_service.app.locations import Locations
from token_service.app.security_events import Transmitters
from token_service.app.upstreams import IdentityProviders
from token_service.clock import SystemClock
from token_service.config import (
    Settings,
    UnixSocket,
    load_audit_keys,
    load_key_encryption_keys,
    load_pairwise_key,
    prepare_data_dir,
    refusal,
)
from token_service.config.policy_file import PolicyFile
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.listening import bind_all
from token_service.rpc.server.tls import ReloadingCredentials
from token_service.rpc.server.unix_socket import UnixSocketPath
from token_service.telemetry import check_traces, find_exporters, require_shareable_exporters


async def check(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Check the files, addresses and modules that `serve` needs, with the code of `serve`.

    Changes nothing, and does not connect to the database or Redis. Logs in to a configured HSM. Raises
    `ConfigurationError`, which lists all problems.
    """
    problems: list[str] = []

    @contextmanager
    def noting() -> Iterator[None]:
        try:
            yield
        except (ConfigurationError, SigningUnavailableError) as error:
            problems.append(error.message)

    with noting():
        document = PolicyFile.of(settings, environ).load()
        require_classification(settings, document)
        keys = IssuerKeys(SystemClock()).of(document)
        trusted_issuers(document, keys, settings.issuer)
        IdentityProviders(SystemClock(), issuer=settings.issuer).of(document, keys)
        Transmitters(issuer=settings.issuer).of(document, keys)
        Locations().prepare(document.risk.locations)
    with noting():
        if (tls := tls_files(settings)) is not None:
            ReloadingCredentials(tls).load()
        http_tls(settings)
    with noting():
        # In development `serve` creates a missing file.
        if settings.is_production or settings.key_encryption_key_file.exists():
            load_key_encryption_keys(settings)
    with noting():
        if settings.is_production or settings.audit_key_file.exists():
            load_audit_keys(settings)
    with noting():
        load_pairwise_key(settings)
    with noting():
        open_stores(settings)
    with noting():
        for adapter in redis_adapters(settings) or ():
            await adapter.aclose()
    with noting():
        find_exporters(environ)
        require_shareable_exporters(environ, settings.workers)
    with noting():
        check_traces(environ)
    with noting():
        if not settings.is_production and settings.data_dir.exists():
            prepare_data_dir(settings.data_dir)
    for name, address in settings.addresses:
        try:
            if isinstance(address, UnixSocket):
                UnixSocketPath(str(address)).check()
            else:
                # Try any port: a running node may use the configured one.
                for probe in bind_all(address.host, 0):
                    probe.close()
        except ConfigurationError as error:
            problems.append(error.message)
        except OSError as error:
            problems.append(f"TOKEN_SERVICE_{name}: can't listen on {address} ({error.strerror})")
    with noting():
        if (module := pkcs11_keys(settings)) is not None:
            async with module:
                pass
    if problems:
        raise refusal(problems)
