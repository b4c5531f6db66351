"""`token-service serve`."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from token_service import __version__
from token_service.cli.core_dumps import forbid_core_dumps
from token_service.cli.help_sections import ListingCommand
from token_service.cli.settings_options import settings_options
from token_service.config import LogFormat, Settings
from token_service.errors import ConfigurationError
from token_service.listening import NodeAddresses
from token_service.telemetry import require_shareable_exporters
from token_service.telemetry.capture import capture_standard_error, log_warnings_and_uncaught_exceptions

if TYPE_CHECKING:
    from token_service.app.supervisor import Worker

logger = logging.getLogger(__name__)


@click.command("serve", cls=ListingCommand)
@settings_options
def command(settings: Settings) -> None:
    """Run the service until SIGTERM or Ctrl-C. A second signal ends it at once. SIGHUP reloads the settings.

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
    # A request to reload must not end a process that has no handler for it yet.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    forbid_core_dumps(also_to_programs=settings.is_production)

    is_json = settings.log_format is LogFormat.JSON
    if is_json:
        log_warnings_and_uncaught_exceptions()

    def announce(addresses: NodeAddresses) -> None:
        if is_json:
            logger.info("ready", extra={"fields": {"version": __version__, **_named(addresses)}})
            return
        click.echo(hint(settings, addresses))
        sys.stdout.flush()

    if settings.workers == 1:
        _run(settings, announce)
        return
    require_shareable_exporters(os.environ, settings.workers)
    from token_service.app.supervisor import Worker, supervise

    try:
        outcome = supervise(settings, lambda real: announce(_configured(real)))
    except ConfigurationError as error:
        if not is_json:
            raise
        logger.error("%s", error.message)  # noqa: TRY400 - no defect
        sys.exit(2)
    if isinstance(outcome, Worker):
        _run(outcome.settings, lambda _addresses: outcome.ready(), outcome)
    else:
        sys.exit(outcome)


def _end_in_order(_number: int, _frame: object) -> None:
    """End this process, which has not started any work yet."""
    os._exit(0)


def _run(settings: Settings, ready: Callable[[NodeAddresses], None], worker: Worker | None = None) -> None:
    if settings.log_format is LogFormat.JSON:
        capture_standard_error()
    import uvloop

    from token_service.app.readiness import Colleagues
    from token_service.app.serve import serve

    colleagues = None if worker is None else Colleagues(worker.number, worker.readiness)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        share = None if worker is None else worker.share
        runner.run(serve(settings, ready, share=share, colleagues=colleagues))


def _configured(settings: Settings) -> NodeAddresses:
    token_address = settings.grpc_token_address
    return NodeAddresses(
        str(settings.grpc_address),
        str(settings.http_address),
        "" if token_address is None else str(token_address),
    )


def _named(addresses: NodeAddresses) -> dict[str, str]:
    return {f"{name}_address": address for name, address in addresses._asdict().items() if address}


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

Issue tokens, in another terminal, with one of
  {_own_command()} tokens issue --target {shlex.quote(grpc_address)} --subject alice --client-id web --audience api --scope read
  buf curl --protocol grpc --http2-prior-knowledge{options} -d '{request}' \\
    {calls}
  grpcurl -plaintext -d '{request}' {target} token_service.v1.TokenService/IssueToken
see the keys that verify them:
  curl {base}/.well-known/jwks.json
and watch the service in a browser:
  {base}/console
"""


def _own_command() -> str:
    """Return a command for this program. An environment that is not activated has no `token-service` on the path."""
    if shutil.which("token-service"):
        return "token-service"
    return f"{shlex.quote(sys.executable)} -m token_service"
