"""`token-service gateway`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from token_service import __version__
from token_service.cli.core_dumps import forbid_core_dumps
from token_service.telemetry.lines import configure_logging

if TYPE_CHECKING:
    from token_service.gateway.serving import Addresses


@click.command("gateway")
@click.option(
    "--config",
    "path",
    required=True,
    envvar="TOKEN_GATEWAY_CONFIG",
    type=click.Path(path_type=Path),
    help="The configuration file.",
)
@click.option("--check-config", is_flag=True, help="Check the file and exit.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(path: Path, check_config: bool, log_level: str, log_format: str) -> None:  # noqa: FBT001  # a flag of the command line
    """Answer the authorization checks of Envoy, nginx, Traefik and Caddy, until SIGTERM or Ctrl-C.

    Validates tokens locally and follows their revocations; needs no database. SIGHUP reloads the file. See
    docs/gateways.md, and docs/reference/gateway.md for every key.

    \b
    Examples:
      token-service gateway --config gateway.toml
      token-service gateway --config gateway.toml --check-config
      token-service gateway --config gateway.toml --log-format json

    \b
    The shortest file:
      [listen]
      grpc = "unix:/run/token-gateway/grpc.sock"
      http = "127.0.0.1:9190"
      [issuer]
      issuer = "https://tokens.example"
      target = "dns:///tokens.internal:50051"
      [tokens]
      audience = "https://api.example"
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the gateway can reload its file
    configure_logging(log_level, as_json=log_format == "json")
    from token_service.gateway.loading import load

    loaded = load(path)
    if check_config:
        click.echo(f"{path} is good")
        return
    forbid_core_dumps(also_to_programs=False)
    import uvloop

    from token_service.gateway.serving import serve

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(path, loaded, _announce))


def _announce(addresses: Addresses) -> None:
    edges = [f"gRPC on {addresses.grpc}"] * bool(addresses.grpc)
    edges += [f"HTTP on {addresses.http}"] * bool(addresses.http)
    click.echo(f"token-service gateway {__version__} listens: {', '.join(edges)}")
    sys.stdout.flush()
