"""Client certificate authorities from a file that may be replaced at any time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from token_service.errors import ConfigurationError

_INTERVAL: Final = 1.0
_SETTLING: Final = 0.1
"""Seconds in which changed content must stay the same. A program that writes in place empties the file first."""

logger = logging.getLogger(__name__)


class ClientAuthorities:
    """Reads the authorities file. If new content is invalid, the last valid authorities stay in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: bytes | None = None

    def load(self) -> Sequence[x509.Certificate]:
        """Read the file. Raises `ConfigurationError`."""
        try:
            self._seen = self._path.read_bytes()
            return x509.load_pem_x509_certificates(self._seen)
        except OSError as error:
            raise ConfigurationError(f"{self._path} can't be read: {error.strerror}") from None
        except ValueError as error:
            raise ConfigurationError(
                f"{self._path} (TOKEN_SERVICE_TLS_CLIENT_CA_FILE) holds no certificates in PEM ({error})"
            ) from None

    async def watch(self, changed: Callable[[Sequence[x509.Certificate]], None]) -> None:
        """Call `changed` whenever the content of the file changes, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL)
            try:
                content = await asyncio.to_thread(self._path.read_bytes)
                if content == self._seen:
                    continue
                await asyncio.sleep(_SETTLING)
                if await asyncio.to_thread(self._path.read_bytes) != content:
                    continue  # it is being written
                authorities = await asyncio.to_thread(self.load)
            except OSError:
                continue  # being replaced; the old content stays in force
            except ConfigurationError as error:
                logger.error("the client authorities stay as they were: %s", error.message)  # noqa: TRY400  # no trace needed
                continue
            logger.info("client authorities read again from %s", self._path)
            changed(authorities)
