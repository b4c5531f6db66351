"""Conversion of rights to messages."""

from __future__ import annotations

from msgspec import to_builtins

from token_service.core.policies.rights import Right
from token_service.v1 import client_service_pb2 as pb


def right_message(right: Right) -> pb.Right:
    """Build the message of a right."""
    return pb.Right(**to_builtins(right))
