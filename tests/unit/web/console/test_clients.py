"""The clients: what their pages show, and the changes of their states and secrets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.unit.web.console.console_app import READER, ConsoleApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import METADATA_FIELDS, AuthMethod, Client, ClientMetadata, ClientState
from token_service.core.events.store import AuditFilter
from token_service.core.policies.rights import Permission, Right
from token_service.errors import InvalidReason
from token_service.web.console.pages.client_settings import GROUPS, settings_of

HOSTILE = "<script>alert('client')</script>"
SYSTEM = Caller.system()


async def create(console: ConsoleApp, client_id: str = "shop", **metadata: Any) -> tuple[Client, str]:
    """Register a client with a secret. Return it and the secret."""
    settings = ClientMetadata(
        **{
            "token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC,
            "grant_types": ("client_credentials", "refresh_token"),
            **metadata,
        }
    )
    made = await console.core.client_administration.create(SYSTEM, client_id, settings, console.clock.now())
    return made.client, "" if made.secret is None else made.secret.reveal().decode()


async def current(console: ConsoleApp, client_id: str = "shop") -> Client:
    return await console.core.client_administration.get(SYSTEM, client_id)


async def test_list_is_paged_and_newest_first(console: ConsoleApp) -> None:
    for number in range(51):
        await create(console, f"client-{number:02}")
        console.clock.elapsed += 1
    first = (await console.get("clients")).text
    assert re.findall(r"<code>(client-\d\d)</code>", first) == [f"client-{n:02}" for n in range(50, 0, -1)]
    following = re.search(r'page_token=([^"&]+)" rel="next"', first)
    assert following is not None
    last = (await console.get("clients", page_token=following.group(1))).text
    assert re.findall(r"<code>(client-\d\d)</code>", last) == ["client-00"]
    assert 'rel="next"' not in last


async def test_client_shows_its_settings_and_rights_and_no_secret(console: ConsoleApp) -> None:
    client, secret = await create(
        console,
        client_name="The shop",
        audiences=("https://api.example",),
        rights=(Right(permission=Permission.REVOKE, clients=("shop-*",)),),
    )
    page = (await console.get("clients/client", id="shop")).text
    (at_rest,) = client.secrets
    for text in ("The shop", "client_secret_basic", "https://api.example", "shop-*", at_rest.secret_id):
        assert text in page
    assert secret not in page
    assert "tscs_" not in page
    assert at_rest.hash.hex() not in page
    assert "/console/sessions?by=client_id&amp;value=shop" in page
    assert "/console/audit?client_id=shop" in page
    assert "<td>not yet</td>" in page


async def test_unknown_client_is_not_found(console: ConsoleApp) -> None:
    assert (await console.get("clients/client", id="none")).status_code == 404
    assert (await console.get("clients/disabling", id="none")).status_code == 404
    assert (await console.post("clients/disable", id="none", etag="1")).status_code == 404


async def test_disabling_is_previewed_and_changes_nothing(console: ConsoleApp) -> None:
    client, _ = await create(console)
    await console.node.issue("alice", "shop")
    shown = (await console.get("clients/disabling", id="shop")).text
    assert re.search(r"Live sessions</dt><dd><span class=\"value\">1</span>", shown)
    assert f'name="etag" value="{client.etag}"' in shown
    assert (await current(console)).state is ClientState.ACTIVE
    assert not console.node.published


async def test_disabled_client_loses_its_tokens_and_can_be_enabled(console: ConsoleApp) -> None:
    client, _ = await create(console)
    issued = await console.node.issue("alice", "shop")
    done = await console.post("clients/disable", id="shop", etag=client.etag, comment="stolen laptop")
    assert done.status_code == 303
    assert done.headers["location"].startswith("/console/revocations/wait?cursor=")
    waiting = await console.http.get(done.headers["location"])
    assert "The revocation is stored." in waiting.text
    assert (await console.node.validate(issued.access_token)).reason is InvalidReason.REVOKED
    disabled = await current(console)
    assert disabled.state is ClientState.DISABLED
    (row,) = await console.node.stores.audit.list(
        AuditFilter(actions=("client.disabled",)), limit=9, after=None
    )
    assert (row.actor_name, row.comment) == ("olivia", "stolen laptop")
    page = (await console.get("clients/client", id="shop")).text
    assert "The client is disabled" in page
    assert "Disable the client" not in page

    back = await console.post("clients/enable", id="shop", etag=disabled.etag)
    assert back.headers["location"] == "/console/clients/client?id=shop"
    assert (await current(console)).state is ClientState.ACTIVE


async def test_new_secret_is_shown_once_and_the_form_counts_once(console: ConsoleApp) -> None:
    client, old = await create(console)
    form = {"id": "shop", "etag": client.etag, "overlap": "3600", "lifetime": "7776000"}
    answer = await console.post("clients/rotate", **form)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    (secret,) = re.findall(r"tscs_[A-Za-z0-9_-]{49}", answer.text)
    assert secret != old
    changed = await current(console)
    now = console.clock.now()
    assert {each.expire_time for each in changed.secrets} == {now + 3600, now + 7776000}
    assert "tscs_" not in (await console.get("clients/client", id="shop")).text

    again = await console.post("clients/rotate", **form)
    assert again.status_code == 409
    assert "tscs_" not in again.text
    assert (await current(console)).secrets == changed.secrets


async def test_replaced_secret_can_end_at_once(console: ConsoleApp) -> None:
    client, _ = await create(console)
    answer = await console.post("clients/rotate", id="shop", etag=client.etag, overlap="0")
    assert "has ended" in answer.text
    (only,) = (await current(console)).secrets
    assert only.expire_time is None


@pytest.mark.parametrize(
    ("action", "fields", "problem"),
    [
        ("rotate", {"overlap": "5"}, "overlap"),
        ("rotate", {}, "overlap"),
        ("rotate", {"overlap": "0", "lifetime": "1"}, "lifetime"),
        ("rotate", {"overlap": "0", "etag": ""}, "etag"),
        ("disable", {"etag": ""}, "etag"),
        ("disable", {"comment": "c" * 513}, "comment"),
        ("enable", {"etag": ""}, "etag"),
    ],
)
async def test_wrong_form_is_refused_with_its_field(
    console: ConsoleApp, action: str, fields: dict[str, str], problem: str
) -> None:
    client, _ = await create(console)
    answer = await console.post(f"clients/{action}", **{"id": "shop", "etag": client.etag, **fields})
    assert answer.status_code == 400
    assert problem in answer.text
    assert await current(console) == client


async def test_form_of_an_earlier_state_is_refused(console: ConsoleApp) -> None:
    client, _ = await create(console)
    await console.core.client_administration.update(
        SYSTEM, "shop", {"client_name": "Other"}, console.clock.now()
    )
    for action, fields in (("disable", {}), ("rotate", {"overlap": "0"})):
        answer = await console.post(f"clients/{action}", id="shop", etag=client.etag, **fields)
        assert answer.status_code == 409
        assert "read it again" in answer.text
    assert (await current(console)).state is ClientState.ACTIVE


async def test_reader_gets_no_forms(console: ConsoleApp) -> None:
    await create(console)
    console.become(READER)
    page = (await console.get("clients/client", id="shop")).text
    assert "Make another secret" not in page
    assert "Disable the client" not in page
    preview = (await console.get("clients/disabling", id="shop")).text
    assert "you need the permission <code>admin.write</code>" in preview
    assert 'class="danger"' not in preview


async def test_hostile_settings_are_escaped(console: ConsoleApp) -> None:
    await create(console, client_name=HOSTILE)
    for answer in (
        await console.get("clients"),
        await console.get("clients/client", id="shop"),
    ):
        assert answer.status_code == 200
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;" in answer.text


def test_groups_have_every_setting_once() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert sorted([*names, "client_name", "rights"]) == sorted(METADATA_FIELDS)


def test_settings_with_their_defaults_are_only_named() -> None:
    groups = {
        group.title: group for group in settings_of(ClientMetadata(first_party=True, jwks='{"keys":[]}'))
    }
    assert [(each.name, each.values) for each in groups["Login"].settings] == [("first_party", ["yes"])]
    assert "redirect_uris" in groups["Login"].unset
    tokens = {each.name: each.values for each in groups["Tokens"].settings}
    assert tokens == {"grant_types": ["none"], "scopes": ["any"], "audiences": ["any"]}
    (jwks,) = [each for each in groups["Authentication"].settings if each.is_long]
    assert jwks.values == ['{\n  "keys": []\n}']
