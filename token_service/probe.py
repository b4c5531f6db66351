"""The health check of an image: `python -m token_service.probe [PATH]`.

Asks the node of this container for a probe, `/livez` by default, and exits with 0 if the answer is 200, else with 1 and
the answer on standard error. Loads nothing but the standard library, because it runs every few seconds. So it knows
the settings of the environment, and not those of a file or of flags.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from collections.abc import Mapping
from typing import Final

_TIMEOUT: Final = 2.5
_MAX_SHOWN: Final = 2000
_TRUE: Final = ("true", "1", "yes", "on")
_EVERY_ADDRESS: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # none is listened on


def probe(path: str, environ: Mapping[str, str]) -> str | None:
    """Return the problem that a probe shows, or None."""
    host, _, port = environ.get("TOKEN_SERVICE_HTTP_ADDRESS", "127.0.0.1:8080").rpartition(":")
    host = _EVERY_ADDRESS.get(host, host)
    if environ.get("TOKEN_SERVICE_HTTP_TLS", "").strip().lower() in _TRUE:
        # The certificate is for the names that clients use.
        context = ssl._create_unverified_context()  # noqa: S323, SLF001  # nothing secret is sent
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, int(port), timeout=_TIMEOUT, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status == http.client.OK:
            return None
        return f"{path}: {answer.status} {answer.read(_MAX_SHOWN).decode(errors='replace').strip()}"
    except (OSError, http.client.HTTPException) as error:
        return f"{path}: no answer from {host}:{port} ({error})"
    finally:
        connection.close()


def main() -> None:
    """Exit with the result of the probe that the command line names."""
    path = sys.argv[1] if len(sys.argv) > 1 else "/livez"
    if problem := probe(path, os.environ):
        sys.exit(problem)


if __name__ == "__main__":
    main()
