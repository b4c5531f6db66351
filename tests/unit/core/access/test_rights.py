"""Bounds of rights."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit_client, admit_issue
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import May, Permission, Right, matches
from token_service.errors import PermissionDeniedError
from token_service.tokens.claims import TokenKind

BOUNDED = Right(
    permission=Permission.ISSUE,
    clients=("web", "mobile-*"),
    audiences=("https://orders.example.org",),
    scopes=("orders:*", "profile"),
    token_types=("access", "refresh"),
    may=(May.AUTH_CONTEXT, May.OTHER_SUBJECTS),
)
INSIDE: dict[str, Any] = {
    "subject": "alice",
    "client_id": "web",
    "audience": ("https://orders.example.org",),
    "scopes": ("orders:read", "profile"),
    "kinds": frozenset({TokenKind.ACCESS, TokenKind.REFRESH}),
    "uses": frozenset({May.AUTH_CONTEXT}),
}


def issue(*rights: Right, **request: Any) -> None:
    admit_issue(Caller("a", Rights(rights)), **{**INSIDE, **request})


def test_a_request_inside_of_every_bound_is_admitted() -> None:
    issue(BOUNDED)
    issue(BOUNDED, client_id="mobile-ios")
    issue(BOUNDED, subject="web", scopes=(), kinds=[TokenKind.ACCESS], uses=frozenset())


@pytest.mark.parametrize(
    ("bound", "request_"),
    [
        ("clients", {"client_id": "billing"}),
        ("clients", {"client_id": "webshop"}),
        ("clients", {"client_id": "mobile"}),
        ("audiences", {"audience": ("https://orders.example.org", "https://billing.example.org")}),
        ("scopes", {"scopes": ("orders:read", "orders")}),
        ("scopes", {"scopes": ("profiles",)}),
        ("token_types", {"kinds": frozenset({TokenKind.ACCESS, TokenKind.ID})}),
        ("may", {"uses": frozenset({May.AUTH_CONTEXT, May.CUSTOM_CLAIMS})}),
    ],
)
def test_each_bound_that_is_crossed_is_named(bound: str, request_: dict[str, Any]) -> None:
    with pytest.raises(PermissionDeniedError) as denied:
        issue(BOUNDED, **request_)
    assert denied.value.metadata == {"permission": "issue", "bound": bound}


def test_another_subject_than_the_client_needs_a_right_of_its_own() -> None:
    own = Right(permission=Permission.ISSUE, clients=("web",))
    request = {"scopes": (), "uses": frozenset()}
    issue(own, subject="web", **request)
    with pytest.raises(PermissionDeniedError) as denied:
        issue(own, subject="alice", **request)
    assert denied.value.metadata["bound"] == "may"
    assert "other_subjects" in denied.value.message


def test_two_rights_do_not_add_up_to_a_third() -> None:
    web = Right(permission=Permission.ISSUE, clients=("web",), scopes=("a",), may=tuple(May))
    app = Right(permission=Permission.ISSUE, clients=("app",), scopes=("b",), may=tuple(May))
    issue(web, app, client_id="web", scopes=("a",))
    issue(web, app, client_id="app", scopes=("b",))
    for client_id, scope in (("web", "b"), ("app", "a")):
        with pytest.raises(PermissionDeniedError) as denied:
            issue(web, app, client_id=client_id, scopes=(scope,))
        assert denied.value.metadata["bound"] == "scopes"  # of the right that covers the client


def test_without_the_permission_no_bound_is_named() -> None:
    with pytest.raises(PermissionDeniedError) as denied:
        issue(Right(permission=Permission.REFRESH))
    assert denied.value.metadata == {"permission": "issue"}


def test_an_unbounded_right_allows_everything() -> None:
    issue(
        BOUNDED, Right(permission=Permission.ISSUE, unbounded=True), client_id="billing", uses=frozenset(May)
    )


def test_a_right_for_clients_covers_only_these() -> None:
    caller = Caller("a", Rights([Right(permission=Permission.REFRESH, clients=("web",))]))
    admit_client(caller, UseCase.REFRESH_TOKEN, "web")
    with pytest.raises(PermissionDeniedError) as denied:
        admit_client(caller, UseCase.REFRESH_TOKEN, "billing")
    assert denied.value.metadata == {"permission": "refresh", "bound": "clients"}
    assert not caller.rights.are_unbounded(Permission.REFRESH)
    assert Rights.of(Permission.REFRESH).are_unbounded(Permission.REFRESH)


NAME = st.text("ab:*", min_size=1, max_size=4)


@given(st.lists(NAME, max_size=3), NAME)
def test_patterns_match_names_and_beginnings(patterns: list[str], value: str) -> None:
    expected = not patterns or any(
        value == pattern or (pattern.endswith("*") and value[: len(pattern) - 1] == pattern[:-1])
        for pattern in patterns
    )
    assert matches(patterns, value) == expected


BOUND = st.sets(st.sampled_from(["a", "b", "c", "a*"]), max_size=2).map(tuple)
RIGHT = st.builds(
    Right,
    permission=st.just(Permission.ISSUE),
    clients=BOUND,
    audiences=BOUND,
    scopes=BOUND,
    may=st.sets(st.sampled_from(May)).map(tuple),
)
WANTED = st.tuples(
    st.sampled_from("abc"),
    st.lists(st.sampled_from("abc"), max_size=2),
    st.lists(st.sampled_from("abc"), max_size=2),
    st.frozensets(st.sampled_from([May.AUTH_CONTEXT, May.CUSTOM_CLAIMS])),
)


@given(st.lists(RIGHT, min_size=1, max_size=3), WANTED)
def test_a_request_is_admitted_exactly_if_one_right_allows_all_of_it(
    rights: list[Right], wanted: tuple[str, list[str], list[str], frozenset[May]]
) -> None:
    client_id, audience, scopes, uses = wanted
    allowed = any(
        matches(right.clients, client_id)
        and all(matches(right.audiences, each) for each in audience)
        and all(matches(right.scopes, each) for each in scopes)
        and uses <= set(right.may)
        for right in rights
    )
    request = {
        "subject": client_id,
        "client_id": client_id,
        "audience": audience,
        "scopes": scopes,
        "uses": uses,
    }
    if allowed:
        issue(*rights, **request)
    else:
        with pytest.raises(PermissionDeniedError):
            issue(*rights, **request)
