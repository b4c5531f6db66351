"""Policies and callers from a file and the environment, reloaded when the file changes."""

from __future__ import annotations

import asyncio
import logging
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from token_service.config.settings import Settings
from token_service.core.access.callers import parse_callers
from token_service.core.access.operators import OperatorEntry, parse_operators
from token_service.core.access.rights import Rights
from token_service.core.access.workloads import WorkloadIssuer, parse_workload_issuers
from token_service.core.administration.automatic.rules import AutomaticRules, parse_automatic_rules
from token_service.core.grants.trusted_issuers import TrustedIssuer, parse_trusted_issuers
from token_service.core.login.upstreams import UpstreamSettings, parse_upstreams
from token_service.core.policies.policy import PolicyBook, parse_policy_book
from token_service.core.risk.rules import RiskRules, parse_risk_rules
from token_service.core.security_events.transmitters import Transmitter, parse_transmitters
from token_service.errors import ConfigurationError
from token_service.files import read_regular

PREFIX: Final = "TOKEN_SERVICE_POLICY__"
"""`TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD=5s` overrides `grace_period` of the classification
`internal`.
"""

_INTERVAL: Final = 1.0
_SETTLING: Final = 0.1
"""Seconds in which changed content must stay the same. A program that writes in place empties the file first."""
_MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the file: enough for 100,000 clients."""

_MAX_KEY_PARTS: Final = 32
_PART: Final = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY: Final = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_MAX_KEY_PARTS}}}", re.ASCII)
"""A key of very many parts. The time that the parser takes grows with the square of their number: hours for 1 MB."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """The policies and callers of the file and the environment."""

    book: PolicyBook
    callers: Mapping[str, Rights]
    workload_issuers: Mapping[str, WorkloadIssuer]
    upstreams: Mapping[str, UpstreamSettings]
    trusted_issuers: Mapping[str, TrustedIssuer]
    operators: Mapping[str, OperatorEntry]
    automatic_rules: AutomaticRules
    security_event_transmitters: Mapping[str, Transmitter]
    risk: RiskRules


class PolicyFile:
    """Reads the policies. The last valid policies stay in force while the file is invalid."""

    def __init__(
        self, path: Path | None, environ: Mapping[str, str], *, unbounded_issue: bool = True
    ) -> None:
        """`unbounded_issue`: whether a caller may have `issue` without bounds and without saying so."""
        self._path = path
        self._unbounded_issue = unbounded_issue
        self._overrides = {
            name.removeprefix(PREFIX).lower().replace("__", "."): value
            for name, value in environ.items()
            if name.startswith(PREFIX)
        }
        self._seen: bytes | None = None
        self._is_usable = False
        """Whether the content in `_seen` is valid."""
        self._complaint: str | None = None

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str]) -> PolicyFile:
        """Return the policy file of these settings. In production an unbounded `issue` must be written down."""
        return cls(settings.policy_file, environ, unbounded_issue=not settings.is_production)

    def load(self) -> PolicyDocument:
        """Read and parse the file. Raises `ConfigurationError` for every kind of unusable file or content."""
        content = self._read()
        self._seen, self._is_usable = content, False
        try:
            read = self.parse(content)
        except ConfigurationError as error:
            where = f"{self._path}: " if self._path is not None else ""
            raise ConfigurationError(f"{where}{error.message}") from None
        self._is_usable = True
        return read

    def parse(self, content: bytes) -> PolicyDocument:
        """Parse the content of a policy file together with the environment. Raises `ConfigurationError`."""
        try:
            text = content.decode()
            if match := _LONG_KEY.search(text):
                line = text.count("\n", 0, match.start()) + 1
                raise ConfigurationError(f"line {line} has a key of more than {_MAX_KEY_PARTS} parts")
            document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            # The parser raises errors other than its own for invalid UTF-8, for numbers with thousands of digits and
            # for thousands of nested brackets.
            raise ConfigurationError(f"the content is not TOML: {error}") from None
        book = parse_policy_book(document, self._overrides)
        upstreams = parse_upstreams(document)
        return PolicyDocument(
            book,
            parse_callers(document, unbounded_issue=self._unbounded_issue),
            parse_workload_issuers(document),
            upstreams,
            parse_trusted_issuers(document),
            parse_operators(document),
            parse_automatic_rules(document, book),
            parse_transmitters(document, upstreams),
            parse_risk_rules(document, book.policies),
        )

    @property
    def problem(self) -> str:
        """Why the policies in force are older than the file. Empty: they are not."""
        return self._complaint or ""

    def read_again(self) -> None:
        """Read the file soon, even if it has not changed, and tell `watch` of its content if it was refused before."""
        if self._complaint is not None:
            self._seen = None

    async def watch(self, changed: Callable[[PolicyDocument], None]) -> None:
        """Call `changed` whenever the file gets new valid content, until cancelled. It may refuse the content.

        An unusable file leaves the last valid content in force and is logged once.
        """
        while self._path is not None:
            await asyncio.sleep(_INTERVAL)
            try:
                content = await asyncio.to_thread(self._read)
                if content == self._seen:
                    if self._is_usable and self._complaint is not None:
                        self._complaint = None
                        logger.info("the policy file %s is usable again", self._path)
                    continue
                await asyncio.sleep(_SETTLING)
                if await asyncio.to_thread(self._read) != content:
                    continue  # it is being written
                document = await asyncio.to_thread(self.load)
                self._is_usable = False  # until `changed` has accepted it
                changed(document)
                self._is_usable = True
            except Exception as error:  # noqa: BLE001 - an unusable file must not stop a node
                self._complain(error)
                continue
            self._complaint = None
            logger.info("the policies were reloaded from %s", self._path)

    def _read(self) -> bytes:
        if self._path is None:
            return b""
        try:
            return read_regular(self._path, _MAX_BYTES)
        except OSError as error:
            raise ConfigurationError(f"{self._path} can't be read: {error.strerror}") from None

    def _complain(self, error: Exception) -> None:
        complaint = error.message if isinstance(error, ConfigurationError) else repr(error)
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("the policies in force stay unchanged: %s", complaint)
