"""Reads key sets (RFC 7517)."""

from __future__ import annotations

import logging
from typing import Any, Final

from token_service.tokens import strict_json
from token_service.tokens.key_set import KeySet

MAX_JWKS_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 200

logger = logging.getLogger(__name__)


def parse_jwks(data: bytes) -> list[dict[str, Any]]:
    """The keys of a JWK set.

    Raises `ValueError` for anything else, one that is too large and one without keys.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise ValueError("the key set is too large")
    keys = strict_json.decode_object(data).get("keys")
    if not isinstance(keys, list) or not keys or len(keys) > MAX_KEYS:
        raise ValueError("not a key set, or an empty or too large one")
    return [key for key in keys if isinstance(key, dict)]


def log_refused_keys(issuer: str, key_set: KeySet) -> None:
    """Say which keys of a new key set are not used.

    That a key is for something else is no news to an operator; that one is too weak is.
    """
    for key in key_set.refused:
        level = logging.WARNING if key.weak else logging.INFO
        logger.log(level, "key %s of %s verifies no tokens here: %s", key.key_id, issuer, key.why)
