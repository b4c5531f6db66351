"""Parsing of key sets (RFC 7517)."""

from __future__ import annotations

import logging
from typing import Any, Final

from token_service.tokens import strict_json
from token_service.tokens.key_set import KeySet

MAX_JWKS_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 200

logger = logging.getLogger(__name__)


def parse_jwks(data: bytes) -> list[dict[str, Any]]:
    """Return the keys of a JWK set.

    Raises `ValueError` for other data, for a set that is too large and for a set without keys.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise ValueError("the key set is too large")
    keys = strict_json.decode_object(data).get("keys")
    if not isinstance(keys, list) or not keys or len(keys) > MAX_KEYS:
        raise ValueError("not a key set, or an empty or too large one")
    return [key for key in keys if isinstance(key, dict)]


def log_refused_keys(issuer: str, key_set: KeySet) -> None:
    """Log the refused keys of a new key set.

    A weak key is a warning. A key for another purpose is only information.
    """
    for key in key_set.refused:
        level = logging.WARNING if key.weak else logging.INFO
        logger.log(level, "key %s of %s verifies no tokens here: %s", key.key_id, issuer, key.why)
