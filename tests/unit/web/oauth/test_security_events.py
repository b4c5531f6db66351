"""Security events that transmitters push (RFC 8935), from the request to the revocation and the audit trail."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.transmitter import (
    ACCOUNT_DISABLED,
    CAEP,
    CREDENTIAL_CHANGE,
    RISC,
    SSF,
    TYPE,
    Transmitter,
    of_session,
)
from tests.unit.core.node import Intercepted, raising
from tests.unit.web.oauth.browser_login import ISSUER
from tests.unit.web.oauth.oidc_site import Site
from token_service.app.issuer_keys import IssuerKeys
from token_service.app.security_events import Transmitters
from token_service.config.policy_file import PolicyDocument, PolicyFile
from token_service.core.events.event import Action
from token_service.core.security_events.receiver import EVENTS_PER_MINUTE, SESSION_LATE, SUBJECT_LATE
from token_service.core.security_events.refusal import SetErrorCode
from token_service.core.sessions.session import Session
from token_service.errors import StoreUnavailableError

PATH = "/ssf/events/corporate"


class Receiver:
    """An application that receives the events of one transmitter, whose users log in at the upstream `corporate`."""

    def __init__(self, site: Site, transmitter: Transmitter, directory: Path) -> None:
        self.site, self.transmitter = site, transmitter
        self._directory = directory
        self._keys = IssuerKeys(site.app.clock)
        self._transmitters = Transmitters(issuer=ISSUER)
        self.configure()

    def configure(self, *, upstream: bool = True, **changes: Any) -> None:
        """Put other settings of the transmitter in force."""
        settings = self.transmitter.settings(**({"upstream": "corporate"} if upstream else {}), **changes)
        document = self._document(settings)
        keys = self._keys.of(document)
        self.core.security_events.transmitters = self._transmitters.of(document, keys)

    def _document(self, settings: dict[str, Any]) -> PolicyDocument:
        upstream = self.site.provider.settings(str(self.site.secret))
        tables = {"upstreams.corporate": upstream, "security_event_transmitters.corporate": settings}
        lines: list[str] = []
        for name, table in tables.items():
            inner = {key: value for key, value in table.items() if isinstance(value, dict)}
            flat = {key: value for key, value in table.items() if key not in inner}
            for title, values in [(name, flat), *((f"{name}.{key}", each) for key, each in inner.items())]:
                lines += [f"[{title}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        file = self._directory / "policy.toml"
        file.write_text("\n".join(lines))
        return PolicyFile(file, {}).load()

    @property
    def core(self) -> Any:
        return self.site.app.node.core

    async def push(self, token: str | None = None, *, path: str = PATH, **event: Any) -> httpx.Response:
        content = self.transmitter.token(**event) if token is None else token
        return await self.site.app.http.post(path, content=content, headers={"Content-Type": TYPE})

    async def accepted(self, token: str | None = None, **event: Any) -> dict[str, Any]:
        """Push a token that must be accepted; return the fields of its audit event, empty if there is none."""
        self.site.app.node.audit.events.clear()
        answer = await self.push(token, **event)
        assert (answer.status_code, answer.content) == (202, b""), answer.text
        found = self.recorded(Action.SECURITY_EVENT_RECEIVED)
        assert len(found) <= 1
        return found[0] if found else {}

    def recorded(self, action: Action) -> list[dict[str, Any]]:
        return [fields for name, fields in self.site.app.node.audit.events if name == action.value]

    async def is_live(self, session: Session) -> bool:
        found = await self.site.app.node.stores.sessions.get(session.id)
        assert found is not None
        return found.revoke_time is None and found.floor <= found.revision


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"'


@pytest.fixture
async def receiver(site: Site, tmp_path: Path) -> AsyncIterator[Receiver]:
    with Transmitter(now=site.app.clock.now) as transmitter:
        yield Receiver(site, transmitter, tmp_path)


async def test_event_about_a_session_there_ends_the_sessions_that_came_of_it(receiver: Receiver) -> None:
    ended = [await receiver.site.session(), await receiver.site.session()]
    receiver.site.provider.claims["sid"] = "session-2"
    other = await receiver.site.session()
    received = await receiver.accepted(subject=of_session("session-1"), txn="txn-7", jti="set-7")
    assert [await receiver.is_live(each) for each in ended] == [False, False]
    assert await receiver.is_live(other)
    known = {
        "transmitter": "corporate", "event_type": f"{CAEP}session-revoked", "jti": "set-7", "txn": "txn-7",
        "actor": "caller:transmitter:corporate",
    }  # fmt: skip
    assert received.items() >= {**known, "action": "revoke_session", "result": "revoked"}.items()
    revoked = receiver.recorded(Action.REVOKED)
    assert {each["value"] for each in revoked} == {str(each.id) for each in ended}
    assert all(
        each.items() >= {**known, "cause": "security_event", "reason": "LOGOUT"}.items() for each in revoked
    )


async def test_session_of_another_user_is_not_meant(receiver: Receiver) -> None:
    session = await receiver.site.session()
    await receiver.accepted(subject=of_session("session-1", receiver.transmitter.user("bob")))
    assert await receiver.is_live(session)
    await receiver.accepted(subject=of_session("session-1", receiver.transmitter.user("alice")))
    assert not await receiver.is_live(session)


async def test_event_about_a_subject_ends_its_sessions_of_this_upstream_only(receiver: Receiver) -> None:
    session = await receiver.site.session()
    node = receiver.site.app.node
    direct = await node.issue("corporate:alice")
    received = await receiver.accepted(event=CREDENTIAL_CHANGE, claims={"change_type": "update"})
    assert received["result"] == "revoked"
    assert not await receiver.is_live(session)
    assert (await node.validate(direct.access_token)).reason is None
    assert {each["reason"] for each in receiver.recorded(Action.REVOKED)} == {"CREDENTIALS_CHANGED"}


async def test_disabled_account_loses_all_that_it_holds(receiver: Receiver) -> None:
    session = await receiver.site.session()
    node = receiver.site.app.node
    direct = await node.issue("corporate:alice")
    other = await node.issue("corporate:bob")
    await receiver.accepted(event=ACCOUNT_DISABLED)
    assert not await receiver.is_live(session)
    assert (await node.validate(direct.access_token)).reason is not None
    assert (await node.validate(other.access_token)).reason is None
    (revoked,) = receiver.recorded(Action.REVOKED)
    assert (revoked["target"], revoked["value"], revoked["cause"]) == (
        "SUBJECT",
        "corporate:alice",
        "security_event",
    )


@pytest.mark.parametrize("event", [CREDENTIAL_CHANGE, ACCOUNT_DISABLED])
async def test_session_that_began_after_the_event_stays(receiver: Receiver, event: str) -> None:
    earlier = await receiver.site.session()
    happened = receiver.site.app.clock.now()
    receiver.site.app.clock.elapsed += SUBJECT_LATE + 1
    later = await receiver.site.session()
    await receiver.accepted(event=event, claims={"event_timestamp": happened})
    assert (await receiver.is_live(earlier), await receiver.is_live(later)) == (False, True)
    assert {each["value"] for each in receiver.recorded(Action.REVOKED)} == {str(earlier.id)}


async def test_late_login_of_an_ended_session_ends_but_not_a_minute_later(receiver: Receiver) -> None:
    happened = receiver.site.app.clock.now()
    receiver.site.app.clock.elapsed += SESSION_LATE - 1
    under_way = await receiver.site.session()
    receiver.site.app.clock.elapsed += 2
    later = await receiver.site.session()
    await receiver.accepted(subject=of_session("session-1"), claims={"event_timestamp": happened})
    assert (await receiver.is_live(under_way), await receiver.is_live(later)) == (False, True)


async def test_account_of_a_session_is_found_by_the_session(receiver: Receiver) -> None:
    session = await receiver.site.session()
    direct = await receiver.site.app.node.issue("corporate:alice")
    await receiver.accepted(event=ACCOUNT_DISABLED, subject=of_session("session-1"))
    assert not await receiver.is_live(session)
    assert (await receiver.site.app.node.validate(direct.access_token)).reason is not None


async def test_token_counts_once(receiver: Receiver) -> None:
    token = receiver.transmitter.token(event=ACCOUNT_DISABLED)
    assert (await receiver.accepted(token))["result"] == "revoked"
    session = await receiver.site.session()
    assert await receiver.accepted(token) == {}
    assert receiver.recorded(Action.REVOKED) == []
    assert await receiver.is_live(session)
    rows = receiver.site.app.node.stores.audit.by_place.values()
    assert sum(row.action == Action.SECURITY_EVENT_RECEIVED.value for row in rows) == 1


async def test_token_that_two_nodes_receive_at_once_is_recorded_once(receiver: Receiver) -> None:
    session, token = await receiver.site.session(), receiver.transmitter.token(jti="set-1")
    events = receiver.core.security_events
    counted: list[str] = []
    events.on_event(lambda _, result: counted.append(result.value))
    used_ids: Any = Intercepted(events._used_ids)

    async def use_elsewhere() -> None:
        scope, now = f"security_event:{receiver.transmitter.issuer}", receiver.site.app.clock.now()
        assert await used_ids.target.use(scope, "set-1", now + 60, now)

    used_ids.before["use"] = use_elsewhere
    events._used_ids = used_ids
    assert await receiver.accepted(token) == {}
    assert counted == ["replayed"]
    assert not await receiver.is_live(session)


async def test_token_that_was_interrupted_is_received_again_completely(receiver: Receiver) -> None:
    session, token = await receiver.site.session(), receiver.transmitter.token()
    events = receiver.core.security_events
    used_ids: Any = Intercepted(events._used_ids)
    used_ids.before["use"] = raising(StoreUnavailableError())
    events._used_ids, right = used_ids, events._used_ids
    assert (await receiver.push(token)).status_code == 503
    assert not await receiver.is_live(session)
    events._used_ids = right
    later = await receiver.site.session()
    receiver.site.app.clock.elapsed += 1
    assert (await receiver.accepted(token))["result"] == "revoked"
    assert await receiver.accepted(token) == {}
    assert not await receiver.is_live(later)  # it began in the second of the event


IGNORED: dict[str, tuple[str, dict[str, Any]]] = {
    "a new credential": (CREDENTIAL_CHANGE, {"change_type": "create"}),
    "a higher level": (f"{CAEP}assurance-level-change", {"change_direction": "increase"}),
    "a compliant device": (f"{CAEP}device-compliance-change", {"current_status": "compliant"}),
    "changed claims": (f"{CAEP}token-claims-change", {"claims": {"role": "staff"}}),
    "a changed identifier": (f"{RISC}identifier-changed", {"new-value": "x@y.example"}),
    "an unknown event": ("https://example.org/event", {"event_timestamp": 5}),
}


@pytest.mark.parametrize("case", IGNORED)
async def test_harmless_event_is_acknowledged_and_recorded(receiver: Receiver, case: str) -> None:
    session = await receiver.site.session()
    event, claims = IGNORED[case]
    received = await receiver.accepted(event=event, claims=claims)
    assert (received["event_type"], received["action"], received["result"]) == (event, "ignore", "ignored")
    assert await receiver.is_live(session)


@pytest.mark.parametrize(
    ("event", "claims"),
    [
        (CREDENTIAL_CHANGE, {"change_type": "revoke"}),
        (CREDENTIAL_CHANGE, {}),
        (f"{CAEP}assurance-level-change", {"change_direction": "decrease"}),
        (f"{CAEP}device-compliance-change", {"current_status": "not-compliant"}),
        (f"{RISC}sessions-revoked", {}),
        (f"{RISC}account-purged", {}),
        (f"{RISC}credential-compromise", {"credential_type": "password"}),
    ],
)
async def test_dangerous_event_ends_the_session(
    receiver: Receiver, event: str, claims: dict[str, Any]
) -> None:
    session = await receiver.site.session()
    assert (await receiver.accepted(event=event, claims=claims))["result"] == "revoked"
    assert not await receiver.is_live(session)


async def test_settings_choose_the_action_of_an_event(receiver: Receiver) -> None:
    receiver.configure(events={"session-revoked": "ignore", "token-claims-change": "revoke_subject"})
    session = await receiver.site.session()
    assert (await receiver.accepted())["result"] == "ignored"
    assert await receiver.is_live(session)
    assert (await receiver.accepted(event=f"{CAEP}token-claims-change"))["result"] == "revoked"
    assert not await receiver.is_live(session)


@pytest.mark.parametrize(
    "subject",
    [
        {"format": "email", "email": "alice@corporate.example"},
        {"format": "opaque", "id": "alice"},
        {"format": "iss_sub", "iss": "https://other.example", "sub": "alice"},
        {"format": "phone_number", "phone_number": "+1"},
        {"format": "complex", "device": {"format": "opaque", "id": "d-1"}},
        {"format": "complex", "session": {"format": "uri", "uri": "urn:x"}},
    ],
)
async def test_subject_that_no_setting_maps_is_acknowledged_and_ends_nothing(
    receiver: Receiver, subject: dict[str, Any]
) -> None:
    session = await receiver.site.session()
    assert (await receiver.accepted(event=ACCOUNT_DISABLED, subject=subject))["result"] == "unmapped"
    assert await receiver.is_live(session)


@pytest.mark.parametrize(
    "subject",
    [
        {"format": "email", "email": "alice"},
        {"format": "opaque", "id": "alice"},
        {
            "format": "complex",
            "user": {"format": "opaque", "id": "alice"},
            "tenant": {"format": "opaque", "id": "t"},
        },
        {
            "format": "aliases",
            "identifiers": [{"format": "uri", "uri": "urn:x"}, {"format": "email", "email": "alice"}],
        },
    ],
)
async def test_subject_is_mapped_by_the_template_of_its_format(
    receiver: Receiver, subject: dict[str, Any]
) -> None:
    receiver.configure(subjects={"email": "corporate:{email}", "opaque": "corporate:{id}"})
    session = await receiver.site.session()
    assert (await receiver.accepted(event=ACCOUNT_DISABLED, subject=subject))["result"] == "revoked"
    assert not await receiver.is_live(session)


async def test_transmitter_without_upstream_names_subjects_of_its_own_name(receiver: Receiver) -> None:
    receiver.configure(upstream=False)
    node = receiver.site.app.node
    direct = await node.issue("corporate:alice")
    await receiver.accepted()
    assert (await node.validate(direct.access_token)).reason is not None


async def test_verification_answers_the_state(receiver: Receiver) -> None:
    received = await receiver.accepted(
        event=f"{SSF}verification",
        claims={"state": "asked-by-ops"},
        subject={"format": "opaque", "id": "stream-1"},
    )
    assert (received["result"], received["state"]) == ("stream", "asked-by-ops")


async def test_paused_stream_is_told_to_operators(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    received = await receiver.accepted(event=f"{SSF}stream-updated", claims={"status": "paused"})
    assert (received["result"], received["status"]) == ("stream", "paused")
    assert "the transmitter corporate has set its stream of security events to 'paused'" in caplog.text


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": "https://other.example"}, "invalid_issuer"),
    "another audience": ({"aud": "https://other.example"}, "invalid_audience"),
    "another type": ({"header": {"typ": "JWT"}}, "invalid_request"),
    "an unknown key": ({"header": {"kid": "unknown"}}, "invalid_key"),
    "another algorithm": ({"header": {"alg": "RS256"}}, "invalid_key"),
    "an expiry": ({"exp": 4_000_000_000}, "invalid_request"),
    "a sub": ({"sub": "alice"}, "invalid_request"),
    "an old iat": ({"iat": 1}, "invalid_request"),
    "no jti": ({"jti": ...}, "invalid_request"),
    "an event time that is no time": ({"claims": {"event_timestamp": "now"}}, "invalid_request"),
    "an identifier without its members": ({"subject": {"format": "iss_sub", "sub": "a"}}, "invalid_request"),
    "a complex subject of texts": ({"subject": {"format": "complex", "user": "alice"}}, "invalid_request"),
    "a long session": ({"subject": of_session("s" * 257)}, "invalid_request"),
    "a long subject": ({"subject": of_session("s", {"format": "iss_sub", "iss": "x", "sub": ""})}, "invalid_request"),
    "no aliases": ({"subject": {"format": "aliases", "identifiers": []}}, "invalid_request"),
    "nested aliases": (
        {"subject": {"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": []}]}},
        "invalid_request",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_each_defect_has_its_registered_code(receiver: Receiver, case: str) -> None:
    session = await receiver.site.session()
    event, code = REFUSED[case]
    answer = await receiver.push(**event)
    assert (answer.status_code, answer.json()["err"]) == (400, code), answer.text
    assert set(answer.json()) == {"err", "description"}
    assert answer.json()["description"]
    assert (answer.headers["content-language"], answer.headers["cache-control"]) == ("en", "no-store")
    assert await receiver.is_live(session)


async def test_request_must_be_a_token_of_a_bounded_size(receiver: Receiver) -> None:
    http, token = receiver.site.app.http, receiver.transmitter.token()
    for content, kind in (
        (token, "application/jwt"),
        (token + "x" * 8192, TYPE),
        ("é", TYPE),
        ("", TYPE),
        ("a.b.c", TYPE),
    ):
        answer = await http.post(PATH, content=content.encode(), headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["err"]) == (400, "invalid_request"), kind
    assert (await http.get(PATH)).status_code == 405
    assert (await receiver.push(path="/ssf/events/missing")).status_code == 404
    assert (await receiver.push(token)).status_code == 202


async def test_transmitter_that_is_only_polled_can_not_push(receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "poll").write_text("p" * 20)
    settings = receiver.transmitter.settings(
        poll={"endpoint": f"{receiver.transmitter.issuer}/poll", "token_file": str(tmp_path / "poll")}
    )
    del settings["push"]
    document = receiver._document(settings)
    receiver.core.security_events.transmitters = Transmitters(issuer=ISSUER).of(
        document, IssuerKeys(receiver.site.app.clock).of(document)
    )
    assert (await receiver.push()).status_code == 404


async def test_bearer_token_of_the_transmitter_is_required_and_read_at_each_push(
    receiver: Receiver, tmp_path: Path
) -> None:
    file = tmp_path / "push"
    file.write_text("first-secret\n")
    receiver.configure(push={"token_file": str(file)})
    http, token = receiver.site.app.http, receiver.transmitter.token()

    async def push(**headers: str) -> httpx.Response:
        return await http.post(PATH, content=token, headers={"Content-Type": TYPE, **headers})

    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Basic first-secret"}):
        answer = await push(**headers)
        assert (answer.status_code, answer.json()["err"]) == (400, "authentication_failed")
        assert "first-secret" not in answer.text
    file.write_text("second-secret\n")
    assert (await push(Authorization="Bearer first-secret")).status_code == 400
    assert (await push(Authorization="Bearer second-secret")).status_code == 202
    file.unlink()
    assert (await push(Authorization="Bearer second-secret")).status_code == 503


async def test_rate_of_a_transmitter_counts_valid_tokens_only(receiver: Receiver) -> None:
    token = receiver.transmitter.token()
    quota = receiver.core.security_events._quota
    quota.spend("corporate", EVENTS_PER_MINUTE - 1)
    assert (await receiver.push(iss="https://other.example")).status_code == 400
    assert (await receiver.push(token)).status_code == 202
    answer = await receiver.push(token)
    assert (answer.status_code, int(answer.headers["retry-after"])) == (429, 1)


async def test_key_that_the_transmitter_has_replaced_counts_without_a_restart(receiver: Receiver) -> None:
    assert (await receiver.push()).status_code == 202
    withdrawn = receiver.transmitter.token()
    receiver.site.app.clock.elapsed += 60
    receiver.transmitter.rotate("transmitter-2", keep=False)
    assert (await receiver.push()).status_code == 202
    answer = await receiver.push(withdrawn)
    assert (answer.status_code, answer.json()["err"]) == (400, "invalid_key")


async def test_keys_that_can_not_be_fetched_are_no_refusal(receiver: Receiver) -> None:
    receiver.transmitter.published = []
    receiver.site.app.clock.elapsed += 1
    receiver.core.security_events.transmitters["corporate"].keys._url = "http://127.0.0.1:1"
    answer = await receiver.push()
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


async def test_results_are_counted(receiver: Receiver) -> None:
    counted: list[tuple[str, str]] = []
    receiver.core.security_events.on_event(lambda name, result: counted.append((name, result.value)))
    token = receiver.transmitter.token()
    for each in (token, token, receiver.transmitter.token(aud="x")):
        await receiver.push(each)
    assert counted == [("corporate", "revoked"), ("corporate", "replayed"), ("corporate", "refused")]


async def test_random_tokens_are_accepted_or_refused_with_a_code(receiver: Receiver) -> None:
    """Each of 400 tokens has a random part of a valid one replaced; none causes an unexpected error."""
    generator = random.Random(20261130)
    odd: list[Any] = [
        None,
        True,
        -1,
        1e30,
        "",
        "x" * 3000,
        "a\nb",
        [],
        {},
        [[]],
        {"format": {}},
        {"a": {"b": []}},
    ]
    names = ["iss", "aud", "iat", "jti", "txn", "toe", "nbf", "exp", "sub", "sub_id", "events"]
    statuses: Counter[int] = Counter()
    for _ in range(400):
        changes: dict[str, Any] = {generator.choice(names): generator.choice([..., *odd])}
        header = {generator.choice(["typ", "alg", "kid", "crit"]): generator.choice([..., *odd])}
        subject = {
            "format": generator.choice(["iss_sub", "complex", "aliases", "uri"]),
            "sub": generator.choice(odd),
        }
        token = receiver.transmitter.token(
            event=generator.choice([CREDENTIAL_CHANGE, f"{SSF}verification", "urn:x"]),
            subject={**subject, "user": generator.choice(odd)} if generator.random() < 0.3 else None,
            claims={generator.choice(["event_timestamp", "change_type", "state"]): generator.choice(odd)},
            header=header if generator.random() < 0.2 else None,
            **(changes if generator.random() < 0.6 else {}),
        )
        if generator.random() < 0.2:
            cut = generator.randrange(len(token))
            token = token[:cut] + generator.choice("A.~\0") + token[cut + 1 :]
        answer = await receiver.push(token)
        statuses[answer.status_code] += 1
        if answer.status_code == 400:
            assert answer.json()["err"] in tuple(SetErrorCode)
    assert set(statuses) == {202, 400}
    assert min(statuses.values()) > 40
