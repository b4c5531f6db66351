"""`token-service serve`."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable

import click

from token_service import __version__
from token_service.cli.core_dumps import forbid_core_dumps
from token_service.cli.settings_options import ListingCommand, settings_options
from token_service.config import Settings
from token_service.listening import NodeAddresses


@click.command("serve", cls=ListingCommand)
@settings_options
def command(settings: Settings) -> None:
    """Run the service until SIGTERM or Ctrl-C. A second signal ends it at once.

    Without settings the service runs for development: SQLite below the current directory, no Redis, every caller
    trusted, on loopback only.

    \b
    Examples:
      token-service serve
      token-service serve --workers 2 --signing-algorithm ES256
      token-service serve --grpc-address 127.0.0.1:0 --http-address 127.0.0.1:0
      TOKEN_SERVICE_DATABASE_URL=postgresql://user:password@host/tokens token-service serve
      token-service serve --config /etc/token-service.toml
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end_in_order)
    forbid_core_dumps(also_to_programs=settings.is_production)

    def announce(addresses: NodeAddresses) -> None:
        click.echo(hint(settings, addresses))
        sys.stdout.flush()

    if settings.workers == 1:
        _run(settings, announce)
        return
    from token_service.app.supervisor import Worker, supervise

    outcome = supervise(settings, lambda real: announce(_configured(real)))
    if isinstance(outcome, Worker):
        _run(outcome.settings, lambda _addresses: outcome.ready())
    else:
        sys.exit(outcome)


def _end_in_order(_number: int, _frame: object) -> None:
    """End this process, which has not started any work yet."""
    os._exit(0)


def _run(settings: Settings, ready: Callable[[NodeAddresses], None]) -> None:
    import uvloop

    from token_service.app.serve import serve

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, ready))


def _configured(settings: Settings) -> NodeAddresses:
    token_address = settings.grpc_token_address
    return NodeAddresses(
        str(settings.grpc_address),
        str(settings.http_address),
        "" if token_address is None else str(token_address),
    )


def hint(settings: Settings, addresses: NodeAddresses) -> str:
    """Return the message at startup, with example commands for a new user."""
    grpc_address, http_address, token_address = addresses
    base = f"{'https' if settings.http_tls else 'http'}://{http_address}"
    ready = f"token-service {__version__} is ready: gRPC on {grpc_address}, HTTP on {base}"
    if token_address:
        ready += f", gRPC without client certificates on {token_address}"
    if settings.is_production:
        return ready
    calls = f"http://{grpc_address}/token_service.v1.TokenService/IssueToken"
    options, target = "", grpc_address
    if grpc_address.startswith("unix:"):
        path = shlex.quote(grpc_address.removeprefix("unix:"))
        calls = "http://localhost/token_service.v1.TokenService/IssueToken"
        options, target = f" --unix-socket {path}", f"-unix {path}"
    request = '{"subject": "alice", "client_id": "web", "audience": ["api"], "scopes": ["read"]}'
    return f"""\
{ready}
Development: every caller is trusted. Data is in {settings.database_url}. Ctrl-C stops it.

Issue tokens, in another terminal, with either of
  buf curl --protocol grpc --http2-prior-knowledge{options} -d '{request}' \\
    {calls}
  grpcurl -plaintext -d '{request}' {target} token_service.v1.TokenService/IssueToken
and see the keys that verify them:
  curl {base}/.well-known/jwks.json
"""
