"""docs/clients.md, docs/fapi.md and docs/personal-access-tokens.md: a shell runs the commands of a page in order, and the
output is what the page shows.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.preloaded import path_of_commands
from token_service.core.clients.documents import DocumentRules, client_of_document
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import MacKeys, OpaqueToken
from token_service.tokens.secret import Secret

DOCS = Path(__file__).resolve().parents[2] / "docs"
_FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCUMENT = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (re.compile(r"tscs_[A-Za-z0-9_-]{49}"), "<secret>"),
    (re.compile(r"tspat_[A-Za-z0-9_-]{95}"), "<token>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), f"{'<id>':<36}"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?=  never)"), f"{'<time>':<20}"),
    (re.compile(r"CREATED {15}"), "CREATED  "),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?= {2})"), "<time> "),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
)


def normalized(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.mark.parametrize("page", ["clients.md", "fapi.md", "personal-access-tokens.md"])
def test_commands_print_what_the_page_shows(page: str, tmp_path: Path) -> None:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")},
        "PATH": path_of_commands(),
        "TOKEN_SERVICE_DATA_DIR": str(tmp_path / "data"),
        "TOKEN_SERVICE_LOG_LEVEL": "error",
    }

    def type_(code: str) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
        )  # fmt: skip
        errors = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Traceback"))]
        return "\n".join([done.stdout.rstrip(), *errors])

    type_("token-service migrate")
    blocks = [match.groups() for match in _FENCE.finditer((DOCS / page).read_text(encoding="utf-8"))]
    assert len(blocks) % 2 == 0
    for (kind, code), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True):
        assert kind == "sh"
        assert normalized(type_(code)) == normalized(shown), code


def test_expression_for_secret_scanners_finds_tokens_only() -> None:
    (expression,) = re.findall(r"`(\\btspat_[^`]+)`", (DOCS / "personal-access-tokens.md").read_text())
    keys = MacKeys({1: Secret(b"k" * 32)}, active=1)
    token = OpaqueToken(TokenKind.PERSONAL_ACCESS, 1, UUID(int=7), 0, Secret(b"s" * 32)).format(keys)
    assert re.findall(expression, f'TOKEN="{token}" {token}x {token[:-1]} x{token}') == [token]


def test_document_on_the_page_describes_a_client() -> None:
    (document,) = _DOCUMENT.findall((DOCS / "clients.md").read_text(encoding="utf-8"))
    client = client_of_document("https://app.example/client.json", document.encode(), DocumentRules(), 0.0)
    assert (client.client_name, client.redirect_uris) == ("An MCP client", ("http://127.0.0.1/callback",))
