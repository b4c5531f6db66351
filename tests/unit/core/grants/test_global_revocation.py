"""A global revocation reaches the subject that the assertions of an issuer give, and nothing else."""

from __future__ import annotations

import pytest

from tests.unit.core.grants.assertion_scene import ACME, API, POLICY, Scene
from tests.unit.core.node import ISSUER
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.grants.global_revocation import (
    ENDPOINT,
    MAX_REVOCATION_LIFETIME,
    REVOCATION_TYPE,
    EmailIdentifier,
    GlobalRevocation,
    IssuerAndSubject,
    OpaqueIdentifier,
    SubjectIdentifier,
    is_revocation_token,
)
from token_service.core.policies.rights import Permission, Right
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidReason,
    InvalidRequestError,
    PermissionDeniedError,
)

MANAGER = Caller("manager", Rights.of(Permission.REVOKE), identity="m")
ALICE = IssuerAndSubject(ACME, "alice")


@pytest.fixture
async def scene() -> Scene:
    return await Scene.make()


def revocation(scene: Scene) -> GlobalRevocation:
    return scene.node.core.oauth.global_revocation


@pytest.mark.parametrize(
    ("identifier", "subject"),
    [
        (ALICE, "acme:alice"),
        (IssuerAndSubject(ISSUER, "alice"), "alice"),
        (OpaqueIdentifier("alice"), "alice"),
        (EmailIdentifier("alice@mail.example"), "m:alice@mail.example"),
    ],
)
async def test_identifier_names_one_subject(
    scene: Scene, identifier: SubjectIdentifier, subject: str
) -> None:
    mail = {**POLICY["acme"], "issuer": "https://mail", "subject": "m:{email}"}
    scene.trust({**POLICY, "mail": mail})
    subjects = ("acme:alice", "alice", "m:alice@mail.example", "acme:alice2")
    tokens = {each: (await scene.node.issue(each, "app", audience=(API,))).access_token for each in subjects}
    await revocation(scene).revoke(MANAGER, identifier, scene.node.clock.now())
    reasons = {each: (await scene.node.validate(token)).reason for each, token in tokens.items()}
    assert {each for each, why in reasons.items() if why is InvalidReason.REVOKED} == {subject}
    (event,) = scene.node.audit.named("revoked")
    assert (event["value"], event["reason"], event["comment"]) == (
        subject, "ADMINISTRATIVE", "global token revocation",
    )  # fmt: skip


async def test_unknown_subject_and_a_repetition_succeed(scene: Scene) -> None:
    for _ in range(2):
        await revocation(scene).revoke(MANAGER, OpaqueIdentifier("nobody"), scene.node.clock.now())


@pytest.mark.parametrize(
    "rights", [Rights(), Rights([Right(permission=Permission.REVOKE, clients=("app",))]), Rights.of(Permission.ISSUE)]
)  # fmt: skip
async def test_right_for_some_clients_is_not_enough(scene: Scene, rights: Rights) -> None:
    for identifier in (ALICE, IssuerAndSubject("https://unknown", "alice")):  # the right is judged first
        with pytest.raises(PermissionDeniedError):
            await revocation(scene).revoke(Caller("app", rights), identifier, scene.node.clock.now())


async def test_identifier_that_names_no_subject_is_an_invalid_request(scene: Scene) -> None:
    for identifier in (
        IssuerAndSubject("https://unknown", "alice"),
        IssuerAndSubject("", "alice"),
        IssuerAndSubject(ACME, ""),
        EmailIdentifier("alice@acme.example"),
        OpaqueIdentifier(""),
        OpaqueIdentifier("a\nb"),
    ):
        with pytest.raises(InvalidRequestError) as error:
            await revocation(scene).revoke(MANAGER, identifier, scene.node.clock.now())
        assert [each.field for each in error.value.violations] == ["sub_id"]


# --- Asked for by an issuer -------------------------------------------------------------------------------------------


def jwt_of(scene: Scene, **changes: object) -> str:
    claims = {"iss": ACME, "sub": "shop-at-acme", "aud": ISSUER + ENDPOINT}
    return scene.signed(claims, **{"typ": REVOCATION_TYPE, **changes})  # type: ignore[arg-type]  # any changes


async def test_issuer_ends_its_subject_once_a_token(scene: Scene) -> None:
    held = (await scene.node.issue("acme:alice", "app", audience=(API,))).access_token
    token, now = jwt_of(scene), scene.node.clock.now()
    assert is_revocation_token(token)
    await revocation(scene).revoke_for_issuer(token, ALICE, now)
    assert (await scene.node.validate(held)).reason is InvalidReason.REVOKED
    with pytest.raises(CallerUnauthenticatedError, match="used before"):
        await revocation(scene).revoke_for_issuer(token, ALICE, now)
    (event,) = scene.node.audit.named("revoked")
    assert event["actor"] == "caller:trusted_issuer:acme"


async def test_issuer_must_be_allowed_to_ask(scene: Scene) -> None:
    for entries in ({"acme": {**POLICY["acme"], "global_revocation": False}}, {}):
        scene.trust(entries)
        with pytest.raises(CallerUnauthenticatedError, match="may not ask"):
            await revocation(scene).revoke_for_issuer(jwt_of(scene), ALICE, scene.node.clock.now())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"typ": None}, "lacks typ"),
        ({"typ": "JWT"}, "typ is none"),
        ({"aud": ISSUER}, "aud is not the endpoint"),
        ({"aud": [ISSUER + ENDPOINT]}, "aud is not the endpoint"),
        ({"jti": None}, "jti is missing"),
        ({"exp": 1}, "expired"),
        ({"exp": 1_800_000_000 + MAX_REVOCATION_LIFETIME + 11}, "ahead"),
    ],
)
async def test_each_check_of_its_token_refuses_alone(
    scene: Scene, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(CallerUnauthenticatedError, match=told):
        await revocation(scene).revoke_for_issuer(jwt_of(scene, **changes), ALICE, scene.node.clock.now())
    await revocation(scene).revoke_for_issuer(jwt_of(scene), ALICE, scene.node.clock.now())


async def test_issuer_can_not_end_the_subjects_of_others(scene: Scene) -> None:
    for identifier in (
        IssuerAndSubject("https://kubernetes.default.svc", "alice"),
        IssuerAndSubject(ISSUER, "acme:alice"),
        OpaqueIdentifier("acme:alice"),
        EmailIdentifier("alice@acme.example"),
    ):
        with pytest.raises(PermissionDeniedError, match="its own subjects only"):
            await revocation(scene).revoke_for_issuer(jwt_of(scene), identifier, scene.node.clock.now())


async def test_issuer_that_names_its_subjects_by_email_ends_them_by_email(scene: Scene) -> None:
    scene.trust({"acme": {**POLICY["acme"], "subject": "acme:{email}"}})
    held = (await scene.node.issue("acme:a@acme.example", "app", audience=(API,))).access_token
    now = scene.node.clock.now()
    await revocation(scene).revoke_for_issuer(jwt_of(scene), EmailIdentifier("a@acme.example"), now)
    assert (await scene.node.validate(held)).reason is InvalidReason.REVOKED


async def test_other_bearer_tokens_are_no_revocation_tokens(scene: Scene) -> None:
    assert not any(map(is_revocation_token, ("", "x", "a.b.c", scene.id_token())))
