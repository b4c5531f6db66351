"""Conversion of policies and their changes."""

from __future__ import annotations

from collections.abc import Iterable

from token_service.core.administration.policies import Changes, PoliciesInForce, PolicyCheck
from token_service.core.policies.overrides import PolicyDifference
from token_service.rpc.convert.values import set_timestamp
from token_service.v1 import admin_service_pb2 as pb


def changes_of(message: pb.PolicyChanges) -> Changes:
    """Return the paths and values of a message."""
    return [(value.path, value.value) for value in message.values]


def policies_in_force(found: PoliciesInForce) -> pb.GetPoliciesResponse:
    """Build the message of the policies in force."""
    overrides = found.overrides
    message = pb.GetPoliciesResponse(
        values=[
            pb.PolicyValue(path=each.path, value=each.value, source=each.source.value)
            for each in found.values
        ],
        classification=found.classification,
        default_classification=found.default_classification,
        revision=max(0, overrides.revision),
        updated_by=overrides.updated_by,
        problem=found.problem,
    )
    if overrides.update_time is not None:
        set_timestamp(message.update_time, overrides.update_time)
    return message


def policy_check(check: PolicyCheck) -> pb.CheckPoliciesResponse:
    """Build the message of a check."""
    return pb.CheckPoliciesResponse(
        accepted=not check.problems,
        problems=check.problems,
        differences=differences_of(check.differences),
        omitted_differences=check.omitted,
    )


def differences_of(differences: Iterable[PolicyDifference]) -> list[pb.PolicyDifference]:
    """Build the messages of differences."""
    return [pb.PolicyDifference(path=each.path, before=each.before, after=each.after) for each in differences]
