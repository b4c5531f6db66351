"""Trusted issuers of the policy file: mistakes are told, and subjects of two issuers are never the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, strategies as st

from tests.unit.core.grants.assertion_scene import ACME, POLICY, Keys
from tests.unit.core.node import ISSUER
from token_service.core.grants.subjects import MAX_PATH, MAX_VALUES, Membership, SubjectTemplate
from token_service.core.grants.trusted_issuers import (
    MAX_AGE,
    MAX_NAMES,
    AssertionKind,
    TrustedIssuer,
    TrustedIssuers,
    parse_trusted_issuers,
)
from token_service.errors import ConfigurationError

BASE: dict[str, Any] = {
    "issuer": ACME,
    "keys": "discovery",
    "assertions": ["id_token"],
    "audiences": ["shop-at-acme"],
}
WORKLOAD: dict[str, Any] = {"issuer": ACME, "keys": "discovery", "assertions": ["workload"]}
JAG: dict[str, Any] = {"issuer": ACME, "keys": "discovery", "assertions": ["id_jag"]}
OWN: dict[str, Any] = {"keys": "own", "assertions": ["id_token"]}


def parsed(**entries: Any) -> dict[str, TrustedIssuer]:
    return parse_trusted_issuers({"trusted_issuers": entries})


def test_defaults_are_the_careful_ones() -> None:
    (issuer,) = parsed(acme=BASE).values()
    assert issuer.subject.of({"sub": "alice"}) == "acme:alice"
    assert (issuer.scopes, issuer.clients, issuer.memberships) == ((), (), ())
    assert (issuer.refresh_tokens, issuer.reusable, issuer.global_revocation, issuer.is_own) == (False,) * 4
    assert (issuer.max_age, issuer.max_auth_age) == (MAX_AGE, None)
    (own,) = parsed(self=OWN).values()
    assert (own.is_own, own.subject.of({"sub": "alice"})) == (True, "alice")


def test_every_setting_is_read() -> None:
    issuers = parsed(**POLICY, full={**BASE, "issuer": "https://full", "clients": ["app"], "max_age": "90s",
                                     "max_auth_age": "1h", "subject": "x:{email}"})  # fmt: skip
    assert list(issuers) == [*POLICY, "full"]
    acme, full = issuers["acme"], issuers["full"]
    assert acme.assertions == (AssertionKind.ID_TOKEN, AssertionKind.ID_JAG)
    assert acme.memberships == (
        Membership("roles", ("realm", "roles"), (("acme-admins", "admin"), ("staff", "staff"))),
        Membership("groups", ("groups",), (("blue", "blue"),)),
    )
    assert (full.clients, full.max_age, full.max_auth_age) == (("app",), 90.0, 3600.0)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (5, "must be a table"),
        ({**BASE, "isuer": "x"}, "did you mean issuer?"),
        ({"issuer": ACME, "assertions": ["id_jag"]}, "needs keys and assertions"),
        ({"issuer": ACME, "keys": "discovery"}, "needs keys and assertions"),
        ({**BASE, "issuer": ""}, "issuer: must be a text"),
        ({**BASE, "private": 1}, "private: must be true or false"),
        ({**BASE, "keys": "http://x"}, 'keys: must be "discovery"'),
        ({**BASE, "trust_domain": "example.org"}, "either issuer or trust_domain"),
        ({**BASE, "assertions": "id_token"}, "assertions: must be a list"),
        ({**BASE, "assertions": []}, "assertions: must be a list"),
        ({**BASE, "assertions": ["id_tokne"]}, "did you mean id_token?"),
        ({**BASE, "assertions": [5]}, "5 is none of"),
        ({**BASE, "assertions": ["id_token", "workload"]}, "no check could tell apart"),
        ({**BASE, "audiences": []}, "audiences: must be a list"),
        ({key: value for key, value in BASE.items() if key != "audiences"}, "audiences: is required"),
        ({**BASE, "audiences": [""]}, "is no printable text"),
        ({**BASE, "audiences": [str(n) for n in range(MAX_NAMES + 1)]}, f"1 to {MAX_NAMES}"),
        ({**JAG, "audiences": ["x"]}, "audiences: has no meaning"),
        ({**JAG, "refresh_tokens": True}, "refresh_tokens: has no meaning"),
        ({**BASE, "clients": ["a\n"]}, "clients: "),
        ({**BASE, "scopes": ["a b"]}, "characters that a scope may not have"),
        ({**BASE, "scopes": "a"}, "scopes: must be a list"),
        ({**BASE, "max_age": 5}, "max_age: must be a time"),
        ({**BASE, "max_age": "soon"}, "max_age: not a number"),
        ({**BASE, "max_age": "0s"}, "max_age: is shorter"),
        ({**BASE, "max_age": "61m"}, "max_age: is longer than 3600 s"),
        ({**BASE, "refresh_tokens": "yes"}, "refresh_tokens: must be true or false"),
        ({**BASE, "reusable": True}, "reusable: is only for"),
        ({**BASE, "subject": 5}, "subject: must be a text"),
        ({**BASE, "subject": "alice"}, "has no claim"),
        ({**BASE, "subject": "{sub"}, "has a brace"),
        ({**BASE, "subject": "{}"}, "has a brace"),
        ({**BASE, "subject": "{a}{b}"}, "without a text between"),
        ({**BASE, "subject": "\n{a}"}, "not printable"),
        ({**BASE, "roles": 5}, "roles: must be a table"),
        ({**BASE, "roles": {"claims": "x"}}, "did you mean claim?"),
        ({**BASE, "roles": {"values": ["x"]}}, "roles: claim: must be the name"),
        ({**BASE, "roles": {"claim": ["x"] * (MAX_PATH + 1), "values": ["x"]}}, "roles: claim: must be"),
        ({**BASE, "roles": {"claim": ["x", 5], "values": ["x"]}}, "has a part that is no name"),
        ({**BASE, "roles": {"claim": "x"}}, "roles: values: must be"),
        ({**BASE, "roles": {"claim": "x", "values": []}}, "roles: values: must be"),
        ({**BASE, "roles": {"claim": "x", "values": [str(n) for n in range(MAX_VALUES + 1)]}}, "values: must"),
        ({**BASE, "groups": {"claim": "x", "values": {"a": 5}}}, "groups: values: 'a' = 5"),
        ({**WORKLOAD, "issuer": "", "trust_domain": "B/c"}, "issuer: must be a text"),
        ({"trust_domain": "B/c", "keys": "file:/a", "assertions": ["workload"]}, "no SPIFFE trust domain"),
        ({"trust_domain": "b", "keys": "file:/a", "assertions": ["id_jag"]}, 'must be ["workload"]'),
        ({"trust_domain": "b", "keys": "file:/a", "assertions": ["workload"], "global_revocation": True}, "needs an issuer"),
        ({**OWN, "issuer": ISSUER}, "issuer: has no meaning"),
        ({**OWN, "audiences": ["x"]}, "audiences: has no meaning"),
        ({**OWN, "assertions": ["id_jag"]}, 'must be ["id_token"]'),
        ({**OWN, "refresh_tokens": True}, "refresh_tokens: must be false"),
    ],
)  # fmt: skip
def test_mistakes_are_told(entry: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parsed(acme=entry)
    assert told in error.value.message
    assert "trusted_issuers.acme: " in error.value.message


def test_two_entries_can_not_be_one_issuer() -> None:
    with pytest.raises(ConfigurationError, match="is the issuer of several entries"):
        parsed(a=BASE, b=BASE)
    with pytest.raises(ConfigurationError, match="several entries have keys"):
        parsed(a=OWN, b=OWN)
    (clash,) = parsed(acme={**BASE, "issuer": ISSUER}).values()
    with pytest.raises(ConfigurationError, match="is this service itself"):
        TrustedIssuers([(clash, Keys())], own=None, service=ISSUER)


# --- Subjects ---------------------------------------------------------------------------------------------------------

names = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
values = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=12)


@given(names, names, values, values)
def test_issuers_with_default_subjects_never_name_the_same_one(
    first: str, second: str, one: str, other: str
) -> None:
    assume((first, one) != (second, other))
    entry = {key: value for key, value in BASE.items() if key != "issuer"}
    issuers = {
        **parsed(**{first: {**entry, "issuer": "https://a"}}),
        **parsed(**{second: {**entry, "issuer": "https://b"}}),
    }
    assert issuers[first].subject.of({"sub": one}) != issuers[second].subject.of({"sub": other})


@given(st.tuples(values, values), st.tuples(values, values), st.text(":/", min_size=1, max_size=3))
def test_different_claims_never_give_the_same_subject(
    one: tuple[str, str], other: tuple[str, str], between: str
) -> None:
    assume(one != other)
    template = SubjectTemplate.parse(f"acme:{{tenant}}{between}{{sub}}@acme")
    subjects = []
    for tenant, sub in (one, other):
        try:
            subjects.append(template.of({"tenant": tenant, "sub": sub}))
        except ValueError:
            assert between[0] in tenant
            return
    assert subjects[0] != subjects[1]


def test_subject_needs_its_claims_as_texts() -> None:
    template = SubjectTemplate.parse("{tenant}/{sub}")
    assert template.of({"tenant": "a", "sub": "b/c"}) == "a/b/c"
    for claims in (
        {"sub": "b"},
        {"tenant": "", "sub": "b"},
        {"tenant": 5, "sub": "b"},
        {"tenant": "a/", "sub": "b"},
    ):
        with pytest.raises(ValueError, match="tenant"):
            template.of(claims)


def test_subject_by_email_needs_a_verified_address() -> None:
    template = SubjectTemplate.parse("{email}")
    for verified in (None, False, "true", 1):
        with pytest.raises(ValueError, match="not verified"):
            template.of({"email": "a@b.example", "email_verified": verified})
    assert template.of({"email": "a@b.example", "email_verified": True}) == "a@b.example"


@pytest.mark.parametrize(
    ("claims", "held"),
    [
        ({"realm": {"roles": ["b", "a", "x", 5, None, {"a": 1}]}}, ["A", "B"]),
        ({"realm": {"roles": "a"}}, ["A"]),
        ({"realm": {"roles": {"a": True}}}, []),
        ({"realm": ["roles"]}, []),
        ({"roles": ["a"]}, []),
        ({}, []),
    ],
)
def test_membership_takes_listed_values_only(claims: dict[str, Any], held: list[str]) -> None:
    mapping = Membership.parse("roles", {"claim": ["realm", "roles"], "values": {"a": "A", "b": "B"}})
    assert mapping.of(claims) == held


# --- Subject identifiers ----------------------------------------------------------------------------------------------


def test_identifiers_name_the_subjects_that_assertions_get() -> None:
    entries = parsed(
        acme=BASE,
        mail={**BASE, "issuer": "https://mail", "subject": "m:{email}"},
        tenants={**BASE, "issuer": "https://tenants", "subject": "t:{tenant}:{sub}"},
    )
    trusted = TrustedIssuers([(each, Keys()) for each in entries.values()], own=None, service=ISSUER)
    assert trusted.subject_of(ACME, "alice") == "acme:alice"
    assert trusted.subject_of(ISSUER, "alice") == "alice"
    assert trusted.subject_with_email("a@b.example") == "m:a@b.example"
    for issuer in ("https://other", "https://mail", "https://tenants"):
        with pytest.raises(ValueError, match=r"iss is no trusted issuer|do not follow from sub alone"):
            trusted.subject_of(issuer, "alice")
    without = TrustedIssuers([(entries["acme"], Keys())], own=None, service=ISSUER)
    with pytest.raises(ValueError, match="by email"):
        without.subject_with_email("a@b.example")
