"""docs/clients.md: a shell runs its commands in order, and the output is what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from token_service.core.clients.documents import DocumentRules, client_of_document

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
_FENCE = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCUMENT = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (re.compile(r"tscs_[A-Za-z0-9_-]{49}"), "<secret>"),
    (re.compile(r"CREATED {15}"), "CREATED  "),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ(?= {2})"), "<time> "),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
)


def normalized(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_commands_print_what_the_page_shows(tmp_path: Path) -> None:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOKEN_SERVICE_DATA_DIR": str(tmp_path / "data"),
        "TOKEN_SERVICE_LOG_LEVEL": "error",
    }

    def type_(code: str) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        errors = [line for line in done.stderr.splitlines() if line.startswith(("Error", "Traceback"))]
        return "\n".join([done.stdout.rstrip(), *errors])

    type_("token-service migrate")
    blocks = [match.groups() for match in _FENCE.finditer(PAGE.read_text(encoding="utf-8"))]
    assert len(blocks) % 2 == 0
    for (kind, code), (_, shown) in zip(blocks[::2], blocks[1::2], strict=True):
        assert kind == "sh"
        assert normalized(type_(code)) == normalized(shown), code


def test_document_on_the_page_describes_a_client() -> None:
    (document,) = _DOCUMENT.findall(PAGE.read_text(encoding="utf-8"))
    client = client_of_document("https://app.example/client.json", document.encode(), DocumentRules(), 0.0)
    assert (client.client_name, client.redirect_uris) == ("An MCP client", ("http://127.0.0.1/callback",))
