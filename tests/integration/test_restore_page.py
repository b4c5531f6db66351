"""The commands of docs/restore.md, in a shell beside a restored database, print what the page shows."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

from tests.integration.calls import STRONG, Api, refused
from tests.integration.nodes import Node, key_encryption_key
from tests.integration.tour import ROOT, Tour

PAGE = ROOT / "docs" / "restore.md"
_FENCE = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (re.compile(r"(?<![\w-])[\w-]{16}:(\d{16}|\d+)"), lambda found: f"<log>:{_place(found[1])}"),
    (re.compile(r"^[\w-]{43}$", re.MULTILINE), lambda _: "<key id>"),
)


def _place(sequence: str) -> str:
    """Replace the sequence of a renewed log, which continues at the time in microseconds."""
    return "<time>" if len(sequence) == 16 else sequence


def normalized(text: str) -> str:
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def blocks() -> list[tuple[str, str]]:
    """The language and the text of each block."""
    return [(match[1], textwrap.dedent(match[2])) for match in _FENCE.finditer(PAGE.read_text())]


async def test_the_page(tmp_path: Path) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    env = {
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    async with Node(env=env, data_dir=data) as node:
        async with Api(node.grpc_address) as api:
            before = await api.issue()
            for name in ("somebody", "somebody else"):
                await api.revoke(subject=name)
        assert node.terminate() == 0
        shutil.copytree(data, backup)
        node.start()
        async with Api(node.grpc_address) as api:
            forgotten = await api.issue()
            for _ in range(5):
                await api.revoke(token=forgotten.access_token)
                await api.revoke(session_id=forgotten.session_id)
            ahead = await api.issue()
        assert node.terminate() == 0
        shutil.rmtree(data)
        shutil.copytree(backup, data)

        with Tour(node) as shell:
            for name, value in {**env, "TOKEN_SERVICE_DATA_DIR": str(data)}.items():
                shell._type(f"export {name}='{value}'")
            # Standard error is separate, because it has the log.
            shell._type("exec 2>errors; KEY=$(token-service keys list --state active --format id)")
            printed = ""
            for language, text in blocks():
                if language == "sh":
                    assert not printed, f"the page does not show what is printed:\n{printed}"
                    printed = shell._type(text)
                elif language == "text":
                    assert normalized(printed) == normalized(text), shell._type("cat errors")
                    printed = ""
            assert not printed
        node.start()
        async with Api(node.grpc_address) as api:
            for token in (before.access_token, forgotten.access_token, ahead.access_token):
                assert await api.why(token, consistency=STRONG) in {"REVOKED", "UNKNOWN_KEY"}
            assert (await refused(api.refresh(before.refresh_token))).reason == "SESSION_REVOKED"
            assert (await refused(api.refresh(ahead.refresh_token))).reason == "REFRESH_TOKEN_INVALID"
            fresh = await api.issue()
            assert not await api.why(fresh.access_token, consistency=STRONG)


def test_the_log_line_on_the_page_is_in_the_code() -> None:
    (said,) = (text.strip() for language, text in blocks() if language == "log")
    source = (ROOT / "token_service" / "core" / "revocation" / "restored_log.py").read_text()
    source = re.sub(r'"\n *"', "", source)  # one string in several lines
    for part in re.split(r"[\w-]{16}:\d+|(?<=ends at )\d+: ", said):
        assert part in source, part


def test_its_links_lead_somewhere() -> None:
    text = PAGE.read_text()
    anchors = {line[3:].lower().replace(" ", "-") for line in text.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) == anchors
