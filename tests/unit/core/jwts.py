"""Decode tokens with the standard library alone, to check those of the service."""

from __future__ import annotations

import base64
import json
from typing import Any


def unpad(text: str) -> bytes:
    """Return the bytes of base64url text."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def header_of(token: str) -> dict[str, Any]:
    """Return the header of a JWS in compact form."""
    header: dict[str, Any] = json.loads(unpad(token.split(".", maxsplit=1)[0]))
    return header


def claims_of(token: str) -> dict[str, Any]:
    """Return the payload of a JWS in compact form."""
    claims: dict[str, Any] = json.loads(unpad(token.split(".")[1]))
    return claims
