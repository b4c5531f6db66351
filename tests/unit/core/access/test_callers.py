"""The callers of a policy file."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from token_service.core.access.callers import parse_callers
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import May, Permission, Right
from token_service.errors import ConfigurationError

LOGIN = "spiffe://example.org/login"


def callers(text: str, *, unbounded_issue: bool = False) -> dict[str, Rights]:
    return parse_callers(tomllib.loads(text), unbounded_issue=unbounded_issue)


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        callers(text)
    return caught.value.message.splitlines()[1:]


def test_permissions_are_rights_without_bounds() -> None:
    found = callers(
        """
        [callers."spiffe://example.org/login"]
        permissions = ["refresh", "admin"]

        [callers."gateway.example.org"]
        permissions = []
        """
    )
    assert found == {
        LOGIN: Rights.of(Permission.REFRESH, Permission.ADMIN_READ, Permission.ADMIN_WRITE),
        "gateway.example.org": Rights(),
    }
    assert callers("") == {}


def test_rights_have_their_bounds() -> None:
    found = callers(
        """
        [callers."spiffe://example.org/login"]
        permissions = ["validate"]

        [[callers."spiffe://example.org/login".rights]]
        permission = "issue"
        clients = ["web", "mobile-*"]
        audiences = ["https://orders.example.org"]
        scopes = ["orders:*"]
        token_types = ["access", "refresh"]
        may = ["auth_context"]

        [[callers."spiffe://example.org/login".rights]]
        permission = "revoke"
        clients = ["web"]
        """
    )
    assert list(found[LOGIN]) == [
        Right(permission=Permission.VALIDATE, unbounded=True),
        Right(
            permission=Permission.ISSUE,
            clients=("web", "mobile-*"),
            audiences=("https://orders.example.org",),
            scopes=("orders:*",),
            token_types=("access", "refresh"),
            may=(May.AUTH_CONTEXT,),
        ),
        Right(permission=Permission.REVOKE, clients=("web",)),
    ]


@pytest.mark.parametrize("permission", [Permission.ISSUE, Permission.EXCHANGE])
def test_unbounded_issue_must_be_written_down_where_it_is_demanded(permission: Permission) -> None:
    text = f'[callers.a]\npermissions = ["{permission}"]\n'
    unbounded = {"a": Rights.of(permission)}
    assert f'permission = "{permission}", or write unbounded = true' in mistakes(text)[0]
    assert callers(text, unbounded_issue=True) == unbounded
    assert callers(text + "unbounded = true\n") == unbounded
    assert callers(text + "unbounded = true\n", unbounded_issue=True) == unbounded


@pytest.mark.parametrize(
    ("right", "told"),
    [
        ('permission = "fly"', "'fly' is no permission"),
        ('permission = "issuee"\nclients = ["a"]', "did you mean issue?"),
        ('clients = ["a"]', "None is no permission"),
        ('permission = "issue"', "needs a bound"),
        ('permission = "issue"\nmay = ["custom_claims"]', "needs a bound"),
        ('permission = "exchange"', "the right exchange needs a bound"),
        ('permission = "receive_events"', "needs a bound (clients), or unbounded = true"),
        ('permission = "receive_events"\nscopes = ["a"]', "no bound of receive_events"),
        ('permission = "exchange"\nmay = ["impersonate"]', "needs a bound"),
        ('permission = "exchange"\nclients = ["a"]\nmay = ["auth_context"]', "allowed: impersonate"),
        ('permission = "issue"\nclients = ["a"]\nmay = ["impersonate"]', "nothing that issue can do"),
        ('permission = "issue"\nunbounded = true\nclients = ["a"]', "either unbounded or has bounds"),
        ('permission = "issue"\nunbounded = 1', "neither true nor false"),
        ('permission = "issue"\nclients = []', "would allow nothing"),
        ('permission = "issue"\nclients = "a"', "list of texts"),
        ('permission = "issue"\nclients = [1]', "list of texts"),
        ('permission = "issue"\nclients = ["*"]', "is no pattern"),
        ('permission = "issue"\nclients = ["a*b"]', "is no pattern"),
        ('permission = "issue"\nscopes = ["a b"]', "is no pattern"),
        ('permission = "issue"\nscopes = ["' + "a" * 513 + '"]', "is no pattern"),
        ('permission = "issue"\ntoken_types = ["akcess"]', "did you mean access?"),
        ('permission = "issue"\nclients = ["a"]\nmay = ["all"]', "'all' is none of auth_context"),
        ('permission = "issue"\ncleints = ["a"]', "did you mean clients?"),
        ('permission = "validate"\nclients = ["a"]', "clients: no bound of validate"),
        ('permission = "admin"\nclients = ["a"]', "clients: no bound of admin"),
    ],
)
def test_a_wrong_right_is_told_with_its_caller_and_number(right: str, told: str) -> None:
    (title, problem) = mistakes(f"[[callers.a.rights]]\n{right}\n")
    assert title.strip().startswith("callers.a: ")
    assert problem.strip().startswith("rights, number 1: ")
    assert told in problem


@pytest.mark.parametrize(
    "settings",
    [
        5,
        {},
        {"permissions": "issue"},
        {"permissions": ["fly"]},
        {"permissions": [["issue"]]},
        {"permissions": [{}]},
        {"permissions": ["validate"], "more": 1},
        {"permissions": ["issue"], "unbounded": "yes"},
        {"rights": {}},
        {"rights": [5]},
        {"rights": [{"permission": "validate"}] * 101},
    ],
    ids=lambda settings: repr(settings)[:60],
)
def test_a_caller_with_wrong_settings_is_a_mistake(settings: Any) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_callers({"callers": {"a": settings, "b": settings, "c": {"permissions": ["admin"]}}})
    assert "callers.a: " in error.value.message
    assert "callers.b: " in error.value.message
    assert "callers.c: " not in error.value.message


def test_callers_that_are_no_table_are_a_mistake() -> None:
    with pytest.raises(ConfigurationError):
        parse_callers({"callers": ["a"]})
