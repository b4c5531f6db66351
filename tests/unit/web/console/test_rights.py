"""Which operators may open which page, and send which form. A page or an action without a line here fails."""

from __future__ import annotations

import pytest

from tests.unit.web.console.console_app import EVERYTHING, READER, ConsoleApp
from token_service.core.policies.rights import Permission

NOBODY: tuple[Permission, ...] = ()
WRITER_ONLY = (Permission.ADMIN_WRITE, Permission.REVOKE)

PAGES = {
    "": "admin.read",
    "overview/state": "admin.read",
    "overview/chart": "admin.read",
    "overview/values": "admin.read",
    "subscribers": "admin.read",
    "subscribers/rows": "admin.read",
    "propagation": "admin.read",
    "propagation/state": "admin.read",
    "propagation/times.json": "admin.read",
    "sessions": "admin.read",
    "sessions/session": "admin.read",
    "sessions/select": "admin.read",
    "clients": "admin.read",
    "clients/client": "admin.read",
    "clients/disabling": "admin.read",
    "keys": "admin.read",
    "keys/retirement": "admin.read",
    "policies": "admin.read",
    "policies/edit": "admin.read",
    "policies/reset": "admin.read",
    "policies/file": "admin.read",
    "anomalies": "admin.read",
    "anomalies/times.json": "admin.read",
    "audit": "admin.read",
    "audit/explanation": "admin.read",
    "revocations": "admin.read",
    "revocations/new": "admin.read",
    "revocations/wait": "admin.read",
    "revocations/wait/state": "admin.read",
}
"""The permission that each page and each part needs."""
ACTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "sessions/count": ("admin.read", {"subject": "alice"}),
    "sessions/revoke": ("revoke", {"subject": "alice"}),
    "clients/disable": ("admin.write", {"id": "web", "etag": "1"}),
    "clients/enable": ("admin.write", {"id": "web", "etag": "1"}),
    "clients/rotate": ("admin.write", {"id": "web", "etag": "1", "overlap": "0"}),
    "policies/preview": ("admin.read", {"changes": "internal.rotate = false"}),
    "policies/set": ("admin.write", {"changes": "internal.rotate = false", "revision": "0"}),
    "policies/reset": ("admin.write", {"setting": "internal.rotate", "revision": "0"}),
    "policies/check": ("admin.read", {"file": "a = 1"}),
    "audit/verify": ("admin.read", {}),
    "keys/prepare": ("admin.write", {}),
    "keys/activate": ("admin.write", {"id": "none"}),
    "keys/retire": ("admin.write", {"id": "none"}),
    "revocations/preview": ("admin.read", {"target": "subject", "value": "alice"}),
    "revocations/revoke": ("revoke", {"target": "subject", "value": "alice"}),
}
"""The permission that each action needs, and the fields of its form."""


def of_console(console: ConsoleApp) -> tuple[set[str], set[str]]:
    reading = {page.path for page in console.pages}
    reading |= {page.sub(name) for page in console.pages for name in page.parts}
    return reading, {page.sub(name) for page in console.pages for name in page.actions}


async def test_every_page_and_action_is_listed(console: ConsoleApp) -> None:
    assert of_console(console) == (set(PAGES), set(ACTIONS))


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("permissions", [NOBODY, WRITER_ONLY, READER, EVERYTHING])
async def test_page_needs_its_permission(
    console: ConsoleApp, path: str, permissions: tuple[Permission, ...]
) -> None:
    console.become(permissions)
    answer = await console.get(path)
    # An answer other than 403 is about the missing parameters of a part.
    assert (answer.status_code == 403) == (PAGES[path] not in permissions)
    if answer.status_code == 403:
        assert f"his call needs the permission {PAGES[path]}" in answer.text


async def test_actions_need_their_permission(console: ConsoleApp) -> None:
    token = await console.form_token()
    for path, (permission, fields) in ACTIONS.items():
        for permissions in (NOBODY, READER, WRITER_ONLY, EVERYTHING):
            console.become(permissions)
            answer = await console.post(path, form_token=token, **fields)
            assert (path, answer.status_code == 403) == (path, permission not in permissions)
            if answer.status_code == 403:
                assert permission in answer.text
