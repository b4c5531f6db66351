"""The pytest plugin and docs/testing.md, in a pytest run of its own as users have it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "testing.md"

_REVOKED_IN_THE_SERVICE = """
import asyncio
import pytest
from token_service.client import InvalidReason, InvalidTokenError
from token_service.v1.token_service_pb2 import IssueTokenRequest, RevokeTokenRequest


def test_service_for_an_event_loop(token_service):
    async def main():
        issued = token_service.tokens.IssueToken(
            IssueTokenRequest(subject="bob", client_id="web", audience=["api"])
        )
        async with token_service.async_validator("api") as validator:
            assert (await validator.validate(issued.access_token)).subject == "bob"
            revoke = RevokeTokenRequest(subject="bob")
            revoke.wait.applied_by_all = True
            answer = await asyncio.to_thread(token_service.tokens.RevokeToken, revoke)
            assert answer.subscribers_applied == answer.subscribers_connected >= 1
            with pytest.raises(InvalidTokenError) as refused:
                await validator.validate(issued.access_token)
            assert refused.value.reason is InvalidReason.REVOKED

    asyncio.run(main())
"""


def test_page_works_in_a_project_that_opts_in(tmp_path: Path) -> None:
    conftest, *blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_page.py").write_text("\n".join(blocks))
    (tmp_path / "test_revoked.py").write_text(_REVOKED_IN_THE_SERVICE)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\b26 passed\b", run.stdout), run.stdout
