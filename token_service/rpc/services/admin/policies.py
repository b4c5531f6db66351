"""GetPolicies, CheckPolicies, SetPolicies and ResetPolicies."""

from __future__ import annotations

from collections.abc import Sequence

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.administration.policies import PolicyAdministration
from token_service.errors import InvalidRequestError
from token_service.rpc.convert.admin.policies import (
    changes_of,
    differences_of,
    policies_in_force,
    policy_check,
)
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import admin_service_pb2 as pb


class PoliciesPart:
    """The policies and their overrides."""

    def __init__(self, policies: PolicyAdministration, clock: Clock) -> None:
        self._policies = policies
        self._clock = clock

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `AdminPart`)."""
        return (
            UnaryMethod("GetPolicies", pb.GetPoliciesRequest, self.GetPolicies),
            UnaryMethod("CheckPolicies", pb.CheckPoliciesRequest, self.CheckPolicies),
            UnaryMethod("SetPolicies", pb.SetPoliciesRequest, self.SetPolicies),
            UnaryMethod("ResetPolicies", pb.ResetPoliciesRequest, self.ResetPolicies),
        )

    async def GetPolicies(self, request: pb.GetPoliciesRequest, caller: Caller) -> pb.GetPoliciesResponse:
        """Return the policies in force, or those of one client."""
        return policies_in_force(self._policies.get(caller, request.client_id, tuple(request.audience)))

    async def CheckPolicies(
        self, request: pb.CheckPoliciesRequest, caller: Caller
    ) -> pb.CheckPoliciesResponse:
        """Check a policy file or overrides."""
        match request.WhichOneof("candidate"):
            case "file":
                return policy_check(await self._policies.check_file(caller, request.file))
            case "overrides":
                return policy_check(self._policies.check_overrides(caller, changes_of(request.overrides)))
            case _:
                raise InvalidRequestError.of("candidate", "is required: one of file, overrides")

    async def SetPolicies(self, request: pb.SetPoliciesRequest, caller: Caller) -> pb.SetPoliciesResponse:
        """Set overrides."""
        if not request.HasField("changes"):
            raise InvalidRequestError.of("changes", "is required")
        changed = await self._policies.set(
            caller,
            changes_of(request.changes),
            self._clock.now(),
            revision=request.revision or None,
            comment=request.comment,
        )
        return pb.SetPoliciesResponse(
            revision=changed.revision, differences=differences_of(changed.differences)
        )

    async def ResetPolicies(
        self, request: pb.ResetPoliciesRequest, caller: Caller
    ) -> pb.ResetPoliciesResponse:
        """Remove overrides."""
        changed = await self._policies.reset(
            caller,
            tuple(request.paths),
            self._clock.now(),
            revision=request.revision or None,
            comment=request.comment,
        )
        return pb.ResetPoliciesResponse(
            revision=changed.revision, differences=differences_of(changed.differences)
        )
