"""Callers are identified by secrets, assertions and tokens; wrong proofs are slowed down and recorded."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import structs

from tests.support.memory_clients import KnownClients
from tests.support.token_mint import jwk_of, private_key
from tests.unit.core.node import RecordingAudit
from tests.unit.core.virtual_time import START, ManualClock
from token_service.core.access import client_authentication, known_secrets
from token_service.core.access.authenticator import Authenticator, identity_of
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.client_authentication import (
    FAILURE_WINDOW,
    MAX_FAILURES,
    RECORDED_IN_ALL,
    RECORDED_PER_CLIENT,
    ClientAuthenticator,
)
from token_service.core.access.credentials import (
    AssertionProof,
    BearerProof,
    CallerProof,
    ClientSecretProof,
    parse_proof,
)
from token_service.core.access.rights import Rights
from token_service.core.access.workloads import Workloads, parse_workload_issuers
from token_service.core.clients.client import AuthMethod, Client, ClientState, SecurityProfile
from token_service.core.clients.client_secret import new_secret
from token_service.core.events.event import AuditEvent
from token_service.core.policies.rates import Operation, Rate
from token_service.core.policies.rights import Permission, Right
from token_service.errors import CallerUnauthenticatedError, ConfigurationError, OverloadedError
from token_service.tokens.jwk import public_jwk
from token_service.tokens.key_set import KeySet
from token_service.tokens.secret import Secret

ISSUER = "https://tokens.example.org"
ENDPOINT = "https://tokens.example.org/token"
ADDRESS = "192.0.2.1"
KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())
KEY_SET = KeySet.from_jwks([public_jwk(KEY.public_key())])
SECRET, AT_REST = new_secret(lambda size: b"s" * size, START)
LOGIN = "spiffe://example.org/login"


class Keys:
    """The keys of one party."""

    def __init__(self, key_set: KeySet = KEY_SET) -> None:
        self.key_set = key_set

    async def keys(self, key_id: str | None) -> KeySet:
        await asyncio.sleep(0)  # other calls run meanwhile, as during a fetch
        return self.key_set


class Ids:
    """Used identifiers in memory."""

    def __init__(self) -> None:
        self.used: set[tuple[str, str]] = set()

    async def use(
        self, scope: str, identifier: str, expire_time: float, now: float, events: Sequence[AuditEvent] = ()
    ) -> bool:
        first = (scope, identifier) not in self.used
        self.used.add((scope, identifier))
        return first

    async def was_used(self, scope: str, identifier: str) -> bool:
        return (scope, identifier) in self.used


class Tokens:
    """Access tokens of this service: every token is valid, with the claims of the last one given."""

    def __init__(self) -> None:
        self.claims: Any = None

    async def validate(self, proof: BearerProof) -> Any:
        if self.claims is None:
            raise CallerUnauthenticatedError("the bearer token is not accepted: revoked")
        return self.claims


class Claims:
    def __init__(self, **fields: Any) -> None:
        self.subject, self.client_id, self.expire_time = "app", "app", START + 60
        vars(self).update(fields)


def a_client(client_id: str = "app", **changes: Any) -> Client:
    values: dict[str, Any] = {
        "client_id": client_id,
        "token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC,
        "secrets": (AT_REST,),
        "create_time": START,
        "update_time": START,
    }
    return Client(**{**values, **changes})


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.clients = KnownClients()
        self.audit = RecordingAudit()
        self.used: list[tuple[str, str]] = []
        self.tokens = Tokens()
        self.workload_keys = Keys()
        issuers = parse_workload_issuers(
            {
                "workload_issuers": {
                    "cluster": {"issuer": "https://k8s", "audience": ISSUER, "keys": "https://k8s/keys"},
                    "mesh": {"trust_domain": "example.org", "audience": ISSUER, "keys": "file:/bundle"},
                }
            }
        )
        authentication = ClientAuthenticator(
            self.clients, lambda _client: Keys(), Ids(), self.clock, self.audit, issuer=ISSUER,
            endpoints=frozenset({ENDPOINT}),
        )  # fmt: skip
        self.authenticator = Authenticator(
            self.clients,
            authentication,
            self.tokens,
            issuer=ISSUER,
            workloads=Workloads([(each, self.workload_keys) for each in issuers.values()], self.clock),
            callers={
                LOGIN: Rights.of(Permission.ISSUE),
                "workload:cluster:system:serviceaccount:prod:login": Rights.of(Permission.VALIDATE),
            },
            note_use=lambda *use: self.used.append(use),
        )

    async def identify(self, proof: CallerProof, address: str = ADDRESS) -> Caller:
        return await self.authenticator.identify(proof, address)

    async def refused(self, proof: CallerProof, address: str = ADDRESS) -> str:
        with pytest.raises(CallerUnauthenticatedError) as caught:
            await self.identify(proof, address)
        return caught.value.message

    def problem(self) -> object:
        """Return the problem in the last event."""
        event, fields = self.audit.events[-1]
        assert event == "client.authentication_failed"
        return fields["problem"]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def secret(client_id: str = "app", text: bytes | None = None) -> ClientSecretProof:
    return ClientSecretProof(client_id, Secret(text) if text is not None else SECRET)


def assertion(key: ec.EllipticCurvePrivateKey = KEY, **claims: Any) -> AssertionProof:
    values = {"iss": "app", "sub": "app", "aud": ISSUER, "jti": "1", "exp": START + 60, **claims}
    return AssertionProof(signed(key, values))


def workload(key: ec.EllipticCurvePrivateKey = KEY, **claims: Any) -> BearerProof:
    return BearerProof(signed(key, {"aud": [ISSUER], "exp": START + 60, **claims}))


def signed(key: ec.EllipticCurvePrivateKey, claims: dict[str, Any]) -> str:
    payload = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(payload, key, algorithm="ES256", headers={"kid": public_jwk(key.public_key())["kid"]})


# --- Secrets ----------------------------------------------------------------------------------------------------------


async def test_secret_identifies_its_client(scene: Scene) -> None:
    right = Right(permission=Permission.ISSUE, clients=("app",))
    scene.clients["app"] = a_client(rights=(right,))
    caller = await scene.identify(secret())
    assert (caller.name, caller.client_id, caller.proof) == ("app", "app", Proof.CLIENT_SECRET)
    assert caller.identity == identity_of("client:app")
    assert list(caller.rights) == [
        right,
        Right(permission=Permission.REFRESH, clients=("app",)),
        Right(permission=Permission.REVOKE, clients=("app",)),
    ]
    assert scene.used == [("app", AT_REST.secret_id)]


def basic(client_id: str = "app", secret: Secret = SECRET) -> str:
    return "Basic " + b64encode(f"{client_id}:{secret.reveal().decode()}".encode()).decode()


async def prove(scene: Scene, authorization: str) -> Caller:
    proof = parse_proof(authorization, None, None)
    assert isinstance(proof, ClientSecretProof)
    return await scene.authenticator.identify(proof, ADDRESS)


async def test_repeated_secret_is_recognized_as_the_same_caller(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    assert scene.authenticator.recognize(basic(), ADDRESS) is None
    caller = await prove(scene, basic())
    assert scene.authenticator.recognize(basic(), ADDRESS) == caller
    assert scene.used == [("app", AT_REST.secret_id)] * 2
    assert scene.authenticator.recognize(basic() + " ", ADDRESS) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"state": ClientState.DISABLED},
        {"state": ClientState.DELETED},
        {"secrets": ()},
        {"rights": (Right(permission=Permission.VALIDATE),)},
        {"token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT},
        {"security_profile": SecurityProfile.FAPI2},
        None,
    ],
    ids=lambda changes: "unknown" if changes is None else next(iter(changes)),
)
async def test_secret_is_not_recognized_after_any_change_of_its_client(
    scene: Scene, changes: dict[str, Any] | None
) -> None:
    scene.clients["app"] = a_client()
    await prove(scene, basic())
    if changes is None:
        del scene.clients["app"]
    else:
        scene.clients["app"] = a_client(**changes)
    assert scene.authenticator.recognize(basic(), ADDRESS) is None


async def test_secret_is_not_recognized_after_its_expiry(scene: Scene) -> None:
    scene.clients["app"] = a_client(secrets=(structs.replace(AT_REST, expire_time=START + 10),))
    await prove(scene, basic())
    scene.clock.elapsed += 9
    assert scene.authenticator.recognize(basic(), ADDRESS) is not None
    scene.clock.elapsed += 1
    assert scene.authenticator.recognize(basic(), ADDRESS) is None


async def test_recognized_secret_is_slowed_down_after_failures(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    await prove(scene, basic())
    wrong = ClientSecretProof("app", new_secret(lambda size: b"w" * size, START)[0])
    for _ in range(MAX_FAILURES):
        with pytest.raises(CallerUnauthenticatedError):
            await scene.authenticator.identify(wrong, ADDRESS)
    with pytest.raises(OverloadedError):
        scene.authenticator.recognize(basic(), ADDRESS)


async def test_known_secrets_are_bounded_and_hold_no_secret(scene: Scene, monkeypatch: Any) -> None:
    monkeypatch.setattr(known_secrets, "_MAX_KNOWN", 2)
    for number in range(5):
        scene.clients[f"app-{number}"] = a_client(f"app-{number}")
        await prove(scene, basic(f"app-{number}"))
    known = scene.authenticator._known_secrets._known
    assert len(known) <= 2
    assert SECRET.reveal().decode() not in repr(known)
    assert basic("app-4") not in repr(known)


async def test_secret_ends_at_its_expiry(scene: Scene) -> None:
    scene.clients["app"] = a_client(secrets=(structs.replace(AT_REST, expire_time=START + 10),))
    assert (await scene.identify(secret())).expire_time == START + 10
    scene.clock.elapsed += 10
    await scene.refused(secret())


@pytest.mark.parametrize(
    "changes",
    [
        None,
        {"state": ClientState.DISABLED},
        {"state": ClientState.DELETED},
        {"secrets": ()},
        {"token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT},
        {"token_endpoint_auth_method": AuthMethod.NONE},
    ],
)
async def test_every_failure_has_the_same_answer(scene: Scene, changes: dict[str, Any] | None) -> None:
    scene.clients["right"] = a_client("right")
    expected = await scene.refused(secret("right", b"tscs_wrong"))
    if changes is not None:
        scene.clients["app"] = a_client(**changes)
    assert await scene.refused(secret()) == expected
    assert [event for event, _ in scene.audit.events] == ["client.authentication_failed"] * 2
    assert "tscs_" not in repr(scene.audit.events)
    assert scene.used == []


async def test_failures_are_slowed_down_for_each_client_and_address(scene: Scene) -> None:
    scene.clients["app"], scene.clients["other"] = a_client(), a_client("other")
    for _ in range(MAX_FAILURES):
        await scene.refused(secret(text=b"wrong"))
    with pytest.raises(OverloadedError) as refused:
        await scene.identify(secret())
    assert refused.value.retry_after is not None
    assert len(scene.audit.events) == MAX_FAILURES  # the refused attempt was not tried
    await scene.identify(secret("other"))
    await scene.identify(secret(), address="192.0.2.2")
    scene.clock.elapsed += refused.value.retry_after
    assert (await scene.identify(secret())).client_id == "app"


async def test_addresses_of_one_ipv6_network_share_their_failures(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    for number in range(MAX_FAILURES):
        await scene.refused(secret(text=b"wrong"), address=f"2001:db8::{number:x}")
    for proof in (secret(text=b"wrong"), secret()):
        with pytest.raises(OverloadedError):
            await scene.identify(proof, address="2001:db8::ffff")
    await scene.identify(secret(), address="2001:db8:0:1::1")


async def test_flood_from_many_addresses_is_recorded_within_limits_and_counted(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    for number in range(2 * RECORDED_PER_CLIENT):
        await scene.refused(secret(text=b"wrong"), address=f"192.0.2.{number}")
        await scene.refused(secret(f"invented-{number}"), address="192.0.2.1")
    recorded = [line["client_id"] for _, line in scene.audit.events]
    assert recorded.count("app") == RECORDED_PER_CLIENT
    assert len(recorded) == 2 * RECORDED_PER_CLIENT
    scene.clock.elapsed += FAILURE_WINDOW
    await scene.refused(secret(text=b"wrong"))
    assert scene.audit.events[-1][1]["unrecorded"] == 2 * RECORDED_PER_CLIENT


async def test_flood_for_many_clients_is_recorded_within_limits(scene: Scene) -> None:
    for number in range(RECORDED_IN_ALL + 50):
        scene.clients[f"app-{number}"] = a_client(f"app-{number}")
        await scene.refused(secret(f"app-{number}", b"wrong"))
    assert len(scene.audit.events) == RECORDED_IN_ALL


async def test_concurrent_wrong_assertions_are_recorded_up_to_the_limit(scene: Scene) -> None:
    scene.clients["app"] = keyed()
    wrong = assertion(key=OTHER_KEY)
    failures = await asyncio.gather(
        *(scene.identify(wrong) for _ in range(3 * MAX_FAILURES)), return_exceptions=True
    )
    assert sum(isinstance(failure, CallerUnauthenticatedError) for failure in failures) == MAX_FAILURES
    assert len(scene.audit.events) == MAX_FAILURES


async def test_success_counts_against_no_limit(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    for _ in range(3 * MAX_FAILURES):
        await scene.identify(secret())


# --- Assertions -------------------------------------------------------------------------------------------------------


def keyed(**changes: Any) -> Client:
    return a_client(token_endpoint_auth_method=AuthMethod.PRIVATE_KEY_JWT, secrets=(), **changes)


async def test_assertion_identifies_its_client_once(scene: Scene) -> None:
    scene.clients["app"] = keyed()
    caller = await scene.identify(assertion())
    assert (caller.client_id, caller.proof) == ("app", Proof.CLIENT_ASSERTION)
    await scene.refused(assertion())
    assert scene.problem() == "jti was used before"
    await scene.identify(assertion(jti="2"))


@pytest.mark.parametrize(
    ("limit", "addresses"),
    [
        ("MAX_ASSERTIONS_PER_NETWORK", (ADDRESS,) * 3),
        ("MAX_ASSERTIONS_OF_STRANGERS", ("192.0.2.1", "192.0.2.2", "192.0.2.3")),
    ],
)
async def test_accepted_assertions_are_limited_for_clients_that_describe_themselves(
    monkeypatch: pytest.MonkeyPatch, limit: str, addresses: tuple[str, ...]
) -> None:
    monkeypatch.setattr(client_authentication, limit, 2)
    scene = Scene()
    scene.clients["app"] = keyed()
    for number, address in enumerate(addresses[:2]):
        await scene.identify(assertion(jti=f"described {number}"), address)
    with pytest.raises(OverloadedError):
        await scene.identify(assertion(jti="described 2"), addresses[2])
    scene.clients["app"] = keyed(revision=1)
    for number in range(5):
        await scene.identify(assertion(jti=f"registered {number}"))


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"iss": "other"}, "iss is not the client"),
        ({"iss": None}, "iss is not the client"),
        ({"aud": "https://other"}, "aud is not the issuer as one text"),
        ({"aud": [ISSUER]}, "aud is not the issuer as one text"),
        ({"aud": [ISSUER, "https://other"]}, "aud is not the issuer as one text"),
        ({"aud": ENDPOINT}, "aud is not the issuer as one text"),
        ({"aud": None}, "aud is not the issuer as one text"),
        ({"jti": None}, "jti is missing or longer than 256 characters"),
        ({"jti": "x" * 257}, "jti is missing or longer than 256 characters"),
        ({"exp": START}, "the assertion has expired"),
        ({"exp": START + 311}, "exp is more than 300 s ahead, and iat is missing"),
        ({"exp": START + 60, "iat": START - 300}, "iat is more than 300 s ago"),
        ({"exp": START + 3600, "iat": START - 300}, "iat is more than 300 s ago"),
        ({"sub": "unknown"}, "unknown, disabled or registered for another method"),
    ],
)
async def test_wrong_assertion_is_refused_without_the_reason(
    scene: Scene, claims: dict[str, Any], problem: str
) -> None:
    scene.clients["app"] = keyed()
    assert await scene.refused(assertion(**claims)) == "the client authentication failed"
    assert scene.problem() == problem
    await scene.identify(assertion())  # its jti was not used up


@pytest.mark.parametrize("profile", SecurityProfile)
async def test_algorithm_of_an_assertion_must_be_one_of_the_profile(
    scene: Scene, profile: SecurityProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.clients["app"] = keyed(security_profile=profile)
    keys = {alg: private_key(alg) for alg in ("RS256", "PS256", "ES256", "EdDSA")}
    jwks = [{**jwk_of(key, alg), "kid": alg} for alg, key in keys.items()]
    monkeypatch.setattr(
        scene.authenticator._authentication, "_keys_of", lambda _client: Keys(KeySet.from_jwks(jwks))
    )
    accepted = []
    for alg, key in keys.items():
        claims = {"iss": "app", "sub": "app", "aud": ISSUER, "jti": alg, "exp": START + 60}
        proof = AssertionProof(jwt.encode(claims, key, alg, {"kid": alg}))
        try:
            await scene.identify(proof)
        except CallerUnauthenticatedError:
            assert scene.problem() == "alg is none of the accepted algorithms"
        else:
            accepted.append(alg)
    assert accepted == [alg for alg in keys if profile is SecurityProfile.NONE or alg != "RS256"]


async def test_clock_of_a_client_may_be_ten_seconds_ahead(scene: Scene) -> None:
    scene.clients["app"] = keyed()
    await scene.identify(assertion(iat=START + 10, nbf=START + 10, exp=START + 310))
    await scene.refused(assertion(iat=START + 11, jti="2"))
    assert scene.problem() == "iat is ahead"


async def test_assertion_with_a_late_exp_counts_for_300_seconds_after_its_iat_and_once(scene: Scene) -> None:
    scene.clients["app"] = keyed()
    late = assertion(exp=START + 3600, iat=START)
    await scene.identify(late)
    scene.clock.elapsed += 299
    await scene.refused(late)
    assert scene.problem() == "jti was used before"
    await scene.identify(assertion(exp=START + 3600, iat=START, jti="2"))
    scene.clock.elapsed += 1
    await scene.refused(assertion(exp=START + 3600, iat=START, jti="3"))
    assert scene.problem() == "iat is more than 300 s ago"
    # Also while exp is near, when the first use is forgotten.
    scene.clock.elapsed += 3200
    await scene.refused(late)
    assert scene.problem() == "iat is more than 300 s ago"


async def test_assertion_of_another_key_is_refused(scene: Scene) -> None:
    scene.clients["app"] = keyed()
    forged = assertion(OTHER_KEY)
    assert await scene.refused(forged) == "the client authentication failed"


async def test_client_may_opt_in_to_the_endpoint_as_audience(scene: Scene) -> None:
    scene.clients["app"] = keyed(accepts_endpoint_audience=True)
    assert (await scene.identify(assertion(aud=ENDPOINT))).client_id == "app"
    await scene.refused(assertion(aud=[ENDPOINT], jti="2"))
    await scene.refused(assertion(aud="https://tokens.example.org/other", jti="3"))


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.DELETED])
async def test_assertion_of_an_ended_client_is_refused(scene: Scene, state: ClientState) -> None:
    scene.clients["app"] = keyed(state=state)
    await scene.refused(assertion())


# --- Tokens of this service -------------------------------------------------------------------------------------------


OWN = BearerProof(signed(KEY, {"iss": ISSUER}))


async def test_access_token_of_a_client_for_itself_identifies_it(scene: Scene) -> None:
    scene.clients["app"], scene.tokens.claims = a_client(), Claims()
    caller = await scene.identify(OWN)
    assert (caller.client_id, caller.proof, caller.expire_time) == ("app", Proof.ACCESS_TOKEN, START + 60)


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"subject": "alice"}, "its subject is not the client itself"),
        ({"subject": "other", "client_id": "other"}, "its client is not registered or disabled"),
        ({"subject": "ended", "client_id": "ended"}, "its client is not registered or disabled"),
    ],
)
async def test_other_access_tokens_are_refused(scene: Scene, claims: dict[str, Any], told: str) -> None:
    scene.clients["app"] = a_client()
    scene.clients["ended"] = a_client("ended", state=ClientState.DISABLED)
    scene.tokens.claims = Claims(**claims)
    assert told in await scene.refused(OWN)


async def test_invalid_access_token_is_refused(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    assert "revoked" in await scene.refused(OWN)


# --- Tokens of workloads ----------------------------------------------------------------------------------------------

ACCOUNT = "system:serviceaccount:prod:login"


async def test_workload_has_the_rates_of_the_policy_file(scene: Scene) -> None:
    rates = {Operation.VALIDATE_OPAQUE: Rate(5, 1)}
    known = f"workload:cluster:{ACCOUNT}"
    scene.authenticator.callers = {known: Rights(Rights.of(Permission.VALIDATE), rates)}
    caller = await scene.identify(workload(iss="https://k8s", sub=ACCOUNT))
    assert caller.rights.rates == scene.authenticator.rights(caller).rates == rates


async def test_service_account_of_a_cluster_is_identified(scene: Scene) -> None:
    caller = await scene.identify(workload(iss="https://k8s", sub=ACCOUNT))
    assert caller.name == f"workload:cluster:{ACCOUNT}"
    assert (caller.proof, caller.client_id, caller.expire_time) == (Proof.WORKLOAD_TOKEN, "", START + 60)
    assert caller.permissions == {Permission.VALIDATE}


@pytest.mark.parametrize("iss", [None, "https://spire"])
async def test_spiffe_jwt_svid_is_identified_by_its_subject(scene: Scene, iss: str | None) -> None:
    caller = await scene.identify(workload(iss=iss, sub=LOGIN))
    assert (caller.name, caller.permissions) == (LOGIN, frozenset({Permission.ISSUE}))


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"iss": "https://k8s", "sub": ACCOUNT, "aud": ["https://other"]}, "another audience"),
        ({"iss": "https://k8s", "sub": ACCOUNT, "aud": None}, "another audience"),
        ({"iss": "https://k8s", "sub": ACCOUNT, "exp": START}, "expired"),
        ({"iss": "https://k8s", "sub": "system:serviceaccount:prod:other"}, "not known here"),
        ({"iss": "https://k8s", "sub": ""}, "no name"),
        ({"iss": "https://k8s", "sub": "a\nb"}, "no name"),
        ({"iss": "https://other", "sub": ACCOUNT}, "not trusted"),
        ({"sub": "spiffe://evil.org/login"}, "not trusted"),
        ({"sub": "spiffe://example.org/../login"}, "not trusted"),
        ({"sub": "spiffe://example.org/other"}, "not known here"),
        # The issuer of the cluster can't name a workload of the mesh, whose key set is another one.
        ({"iss": ISSUER, "sub": LOGIN, "aud": ["https://other"]}, "revoked"),
    ],
)
async def test_other_workload_tokens_are_refused(scene: Scene, claims: dict[str, Any], told: str) -> None:
    assert told in await scene.refused(workload(**claims))


async def test_workload_token_of_another_key_is_refused(scene: Scene) -> None:
    assert "not accepted" in await scene.refused(workload(OTHER_KEY, iss="https://k8s", sub=ACCOUNT))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"A": {"issuer": "https://a", "audience": "x", "keys": "discovery"}}, "the name must have"),
        ({"a": 5}, "must be a table"),
        ({"a": {"issuer": "https://a", "audience": "x"}}, "needs audience and keys"),
        ({"a": {"audience": "x", "keys": "discovery"}}, "either issuer or trust_domain"),
        ({"a": {"issuer": "i", "trust_domain": "b", "audience": "x", "keys": "file:/a"}}, "either issuer"),
        ({"a": {"trust_domain": "B/c", "audience": "x", "keys": "file:/a"}}, "no SPIFFE trust domain"),
        ({"a": {"trust_domain": "b", "audience": "x", "keys": "discovery"}}, "discovery needs an issuer"),
        ({"a": {"issuer": "https://a", "audience": "x", "keys": "http://a"}}, 'must be "discovery"'),
        ({"a": {"isuer": "https://a", "audience": "x", "keys": "discovery"}}, "did you mean issuer?"),
        ({"a": {"issuer": 5, "audience": "x", "keys": "discovery"}}, "must be a text"),
        (
            {name: {"issuer": "https://a", "audience": "x", "keys": "discovery"} for name in ("a", "b")},
            "is the issuer of several entries",
        ),
    ],
)
def test_wrong_workload_issuers_are_told(settings: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_workload_issuers({"workload_issuers": settings})
    assert told in error.value.message


# --- Rights of identified callers -------------------------------------------------------------------------------------


async def test_rights_follow_the_registry_and_the_policy_file(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    client = await scene.identify(secret())
    mesh = await scene.identify(workload(sub=LOGIN))
    assert scene.authenticator.rights(client) == client.rights
    assert scene.authenticator.rights(mesh) == mesh.rights
    scene.clients["app"] = a_client(state=ClientState.DISABLED)
    scene.authenticator.callers = {}
    assert scene.authenticator.rights(client) == Rights()
    assert scene.authenticator.rights(mesh) == Rights()
    scene.clients["app"] = a_client(rights=(Right(permission=Permission.SUBSCRIBE, unbounded=True),))
    assert Permission.SUBSCRIBE in scene.authenticator.rights(client).permissions


async def test_workload_loses_its_rights_with_its_issuer(scene: Scene) -> None:
    account = "system:serviceaccount:prod:login"
    cluster = await scene.identify(workload(iss="https://k8s", sub=account))
    mesh = await scene.identify(workload(sub=LOGIN))
    issuers = {
        "renamed": {"issuer": "https://k8s", "audience": ISSUER, "keys": "https://k8s/keys"},
        "mesh": {"trust_domain": "example.org", "audience": ISSUER, "keys": "file:/bundle"},
    }
    for names, left in ((("renamed", "mesh"), (Rights(), mesh.rights)), (("renamed",), (Rights(), Rights()))):
        parsed = parse_workload_issuers({"workload_issuers": {name: issuers[name] for name in names}})
        scene.authenticator.workloads = Workloads(
            [(each, scene.workload_keys) for each in parsed.values()], scene.clock
        )
        assert (scene.authenticator.rights(cluster), scene.authenticator.rights(mesh)) == left


async def test_replaced_secret_ends_with_its_overlap(scene: Scene) -> None:
    scene.clients["app"] = a_client()
    client = await scene.identify(secret())
    assert scene.authenticator.expire_time(client) == float("inf")
    _, newest = new_secret(lambda size: b"n" * size, START)
    scene.clients["app"] = a_client(secrets=(structs.replace(AT_REST, expire_time=START + 60), newest))
    assert scene.authenticator.expire_time(client) == START + 60
    assert scene.authenticator.rights(client) == client.rights
    for changes in ({"secrets": (newest,)}, {"token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT}):
        scene.clients["app"] = a_client(**changes)
        assert scene.authenticator.rights(client) == Rights()
