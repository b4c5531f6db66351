"""Nodes of the service whose logs are checked when they end."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.support.deadline import eventually_sync
from tests.support.processes import ServiceProcess

SECRETS = re.compile(
    # A token, or the beginning of one. Ids of tokens (22 characters) and keys (43) are random and may begin like one.
    r"(?<![\w-])(?![\w-]{43}(?![\w.-]))(?:eyJ|[rs]t_|tspat_)[\w-]{24,}"
    # A longer part of a token, anywhere.
    r"|eyJ[\w-]{8,}\.[\w-]{8,}|(?<![A-Za-z0-9])(?:[rs]t_|tspat_)[\w-]{48,}"
    r"|whsec_[\w+/=-]{16,}"
    r"|PRIVATE KEY-----",
    re.ASCII,
)
DEFECTS = re.compile(r"^Traceback|^\s+File \"|INTERNAL|never (?:awaited|retrieved)", re.MULTILINE)


class Node(ServiceProcess):
    """A `ServiceProcess` that fails its test if its log contains a secret or the trace of a defect.

    `tolerated`: a pattern for log lines that look like a defect but are allowed in this test.
    """

    def __init__(self, *args: str, tolerated: str = r"(?!)", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tolerated = re.compile(tolerated)
        self._known_secrets = {
            password
            for name, value in (kwargs.get("env") or {}).items()
            if name.endswith("_URL") and (password := urlsplit(value).password)
        }
        self._known_secrets |= {
            value for name, value in (kwargs.get("env") or {}).items() if name.endswith("ENCRYPTION_KEY")
        }

    def close(self) -> None:
        """Kill the node, delete its files, then check its log."""
        log = self.log_text()
        super().close()
        assert_clean(log, self._tolerated, self._known_secrets)


def assert_clean(log: str, tolerated: re.Pattern[str] | None = None, known_secrets: set[str] = set()) -> None:  # noqa: B006
    """Fail if a log contains a token, a password or the trace of a defect. The message repeats no secret."""
    for number, line in enumerate(log.splitlines(), 1):
        where = f"line {number} of the log"
        found = SECRETS.search(line)
        assert found is None, f"{where} holds a secret at column {found.start()}"
        assert not any(secret in line for secret in known_secrets), f"{where} holds a password or a key"
        if DEFECTS.search(line) and not (tolerated and tolerated.search(line)):
            around = "\n".join(log.splitlines()[max(0, number - 20) : number + 40])
            raise AssertionError(f"{where} is the trace of a defect:\n{around}")


def wait_for_client(node: ServiceProcess, client_id: str, secret: str = "") -> None:
    """Wait until a node knows a client that a command has registered. Nodes read the registry every second."""

    def is_known() -> bool:
        form = {"grant_type": "refresh_token", "refresh_token": "x"}
        form |= {} if secret else {"client_id": client_id}
        auth = (client_id, secret) if secret else None
        with httpx.Client(auth=auth, trust_env=False, timeout=60) as http:
            return http.post(f"{node.http_url}/token", data=form).status_code != 401

    eventually_sync(is_known)


def key_encryption_key() -> str:
    """Return a key-encryption key for several nodes."""
    return b64encode(secrets.token_bytes(32)).decode()


@contextmanager
def nodes(
    count: int, env: Mapping[str, str], *args: str, data_dir: Path | None = None
) -> Iterator[list[Node]]:
    """Yield `count` nodes on one database. They start concurrently, so no order of the first start is assumed."""
    env = {
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",  # a twelfth of the time of RS256
        **env,
    }
    with ExitStack() as stack:
        made = [Node(*args, env=env, data_dir=data_dir, ready_timeout=60) for _ in range(count)]
        for node in made:
            stack.callback(node.close)
            node.start(wait=False)
        for node in made:
            node.wait_ready()
        yield made
