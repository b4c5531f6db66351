"""AdminService: joins the methods of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class AdminPart(Protocol):
    """Some methods of AdminService, about one subject."""

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods of this part."""


class AdminService:
    """All methods of AdminService."""

    name: Final = pb.DESCRIPTOR.services_by_name["AdminService"].full_name
    is_serving: Final = True

    def __init__(self, parts: Sequence[AdminPart]) -> None:
        self._parts = parts

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return [method for part in self._parts for method in part.methods()]
