"""oidc-provider on Redis (npm): the same grants by another server."""

from __future__ import annotations

import json
import subprocess
from types import TracebackType
from typing import Any, Self

from tests.support import node as nodejs


class OidcProvider:
    """The process of the provider. `tokens` are `refresh_tokens` of its own grants and an `access_token`."""

    def __init__(self, redis_url: str, chains: int) -> None:
        nodejs.install()
        self._process = nodejs.popen("provider_on_redis.mjs", redis_url, str(chains), stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        # The provider prints warnings first.
        line = next((line for line in self._process.stdout if line.startswith("{")), "")
        if not line:
            raise RuntimeError(f"oidc-provider ended with {self._process.wait()} before it listened")
        self.tokens: dict[str, Any] = json.loads(line)
        self.address = f"127.0.0.1:{self.tokens['port']}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
