"""The fields of a request are counted before it is parsed, so refusal costs the same for any size."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from tests.unit.rpc.server.test_bad_input import tagged, varint
from token_service.core import limits
from token_service.core.limits import MAX_ENCODED_CUSTOM_CLAIMS, MAX_FIELDS, MAX_VIOLATIONS, Checks
from token_service.errors import CustomClaimsTooLargeError, InvalidRequestError
from token_service.rpc.convert.requests import issue_command, refresh_command
from token_service.rpc.server import request_fields
from token_service.rpc.server.request_fields import require_few_fields, shape_of
from token_service.v1 import token_service_pb2 as pb

ISSUE: Descriptor = pb.IssueTokenRequest.DESCRIPTOR  # type: ignore[assignment]  # one of two equal types
MANY = 1_000_000


def number(name: str) -> int:
    return ISSUE.fields_by_name[name].number


def nested(*path: int, items: bytes) -> bytes:
    for at in reversed(path):
        items = tagged(at, 2, varint(len(items)) + items)
    return items


HEAVY = {
    "empty list items": tagged(number("scopes"), 2, b"\0") * MANY,
    "packed enums": tagged(number("token_types"), 2, varint(MANY) + b"\x01" * MANY),
    "unpacked enums": tagged(number("token_types"), 0, b"\x63") * MANY,
    "unknown fields": tagged(1000, 0, b"\x01") * MANY,
    "unknown fixed fields": tagged(1000, 5, b"\x01\0\0\0") * MANY,
    "claims": nested(number("custom_claims"), items=tagged(1, 2, b"\0") * MANY),
    "a list in a claim": nested(number("custom_claims"), 1, 2, 6, items=tagged(1, 2, b"\0") * MANY),
    "authentication methods": nested(number("auth_context"), items=tagged(2, 2, b"\0") * MANY),
}


@pytest.mark.parametrize("kind", HEAVY)
def test_request_with_very_many_fields_is_refused_by_a_count_that_stops(kind: str) -> None:
    shape = shape_of(ISSUE)
    with pytest.raises(InvalidRequestError) as refused:
        require_few_fields(HEAVY[kind], shape)
    assert [v.field for v in refused.value.violations] == ["request"]
    assert (
        MAX_FIELDS
        < request_fields._count(HEAVY[kind], shape)
        <= MAX_FIELDS + MANY * (kind == "packed enums") + 1
    )


def test_full_batch_and_largest_custom_claims_pass() -> None:
    query = pb.ValidateTokenRequest(token="x" * 16_000, audience="a", required_scopes=["s" * 10] * 64)
    batch = pb.BatchValidateTokensRequest(requests=[query] * 256)
    require_few_fields(batch.SerializeToString(), shape_of(pb.BatchValidateTokensRequest.DESCRIPTOR))
    issue = pb.IssueTokenRequest()
    issue.custom_claims.update({"k": [1] * 4094})  # 8 KiB of JSON, the most a policy may allow
    require_few_fields(issue.SerializeToString(), shape_of(ISSUE))
    assert issue.custom_claims.ByteSize() < MAX_ENCODED_CUSTOM_CLAIMS


def test_large_text_is_one_field_and_malformed_data_is_left_to_the_parser() -> None:
    shape = shape_of(pb.ValidateTokenRequest.DESCRIPTOR)
    require_few_fields(pb.ValidateTokenRequest(token="x" * 4_000_000).SerializeToString(), shape)
    for data in (b"\xff" * 5000, b"\x0a" + varint(2**40) + b"x" * 5000, b"\x0b" * 5000, b"\x00" * 5000):
        require_few_fields(data, shape)


UNKNOWN: Any = 99
"""A token type that does not exist."""


def refused_by(request: Any, convert: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as refused:
        convert(request)
    return refused.value


def test_number_of_violations_is_limited() -> None:
    error = refused_by(pb.IssueTokenRequest(token_types=[UNKNOWN] * 16), issue_command)
    assert len(error.violations) == MAX_VIOLATIONS
    error = refused_by(pb.IssueTokenRequest(token_types=[UNKNOWN] * 17), issue_command)
    assert [(v.field, v.description) for v in error.violations] == [("token_types", "has more than 16 items")]
    request = pb.IssueTokenRequest()
    values = request.custom_claims.fields["a"].list_value.values
    for _ in range(5000):
        values.add()
    assert len(refused_by(request, issue_command).violations) == MAX_VIOLATIONS


@pytest.mark.parametrize(
    "claims", [{f"k{n}": n for n in range(65)}, {"k": "x" * 200_000}], ids=["many", "large"]
)
def test_custom_claims_no_policy_allows_are_refused_before_they_are_converted(
    claims: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("token_service.rpc.convert.requests.json_of_struct", None)
    request = pb.IssueTokenRequest()
    request.custom_claims.update(claims)
    with pytest.raises(CustomClaimsTooLargeError):
        issue_command(request)


def test_refused_lists_are_not_kept() -> None:
    """The keys of the caches are short lists of short texts."""
    for cache in (limits._are_plain, limits._are_scopes):
        cache.cache_clear()
    long, many = ["x" * 100_000], ["x"] * 10_000
    for values in (long, many):
        checks = Checks()
        checks.texts("audience", values, 16, 512)
        checks.scopes("scopes", values)
        with pytest.raises(InvalidRequestError):
            checks.done()
        refresh_command(pb.RefreshTokenRequest(scopes=values))
        refused_by(pb.IssueTokenRequest(token_types=[UNKNOWN] * 17), issue_command)
    assert limits._are_plain.cache_info().currsize == 0
    assert limits._are_scopes.cache_info().currsize == 0


def test_scopes_are_checked_by_their_rules() -> None:
    for values, fields in (
        (["a", "b"], set()),
        (["a", "a"], {"scopes"}),
        ([""], {"scopes[0]"}),
        (["a", 'q"'], {"scopes[1]"}),
        (["x" * 129], {"scopes[0]"}),
        ([str(n) for n in range(65)], {"scopes"}),
    ):
        checks = Checks()
        checks.scopes("scopes", values)
        assert {v.field for v in checks._violations} == fields, values
