"""A receiver of pushed security events, in a process of its own: `python event_receiver_process.py DIRECTORY JWKS_URL...`.

It verifies each event with the published keys and appends its claims to `DIRECTORY/received`. While `DIRECTORY/hold` exists, it
gives no answer. It writes its port to `DIRECTORY/port`.
"""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt


def verified(token: str, key_urls: list[str]) -> dict[str, Any]:
    """Return the claims of a token, by the first key set that can be fetched and has its key."""
    for url in key_urls:
        try:
            key = jwt.PyJWKClient(url, cache_keys=False).get_signing_key_from_jwt(token)
        except jwt.PyJWKClientError:
            continue
        return jwt.decode(
            token,
            key.key,
            algorithms=["ES256"],
            audience="hub",
            issuer="https://tokens.example.org",
        )
    raise jwt.InvalidTokenError("no key")


def main(directory: Path, key_urls: list[str]) -> None:
    """Serve until killed."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            token = self.rfile.read(int(self.headers["Content-Length"])).decode()
            try:
                assert jwt.get_unverified_header(token)["typ"] == "secevent+jwt"
                assert self.headers["Content-Type"] == "application/secevent+jwt"
                assert self.headers["Authorization"] == "Bearer of the receiver"
                claims = verified(token, key_urls)
            except (AssertionError, jwt.InvalidTokenError) as error:
                claims = {"error": repr(error)}
            with (directory / "received").open("a") as file:
                file.write(json.dumps(claims) + "\n")
            while (directory / "hold").exists():
                time.sleep(0.02)
            self.send_response(202)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    (directory / "port.new").write_text(str(server.server_address[1]))
    (directory / "port.new").rename(directory / "port")
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
