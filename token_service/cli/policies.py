"""`token-service policies`: read, check and change the policies of a running service, over gRPC."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import (
    output_option,
    show_message,
    show_table,
    timestamp_text,
    visible,
)
from token_service.cli.remote.options import answer_no, service_options

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1 import admin_service_pb2 as pb

_comment = click.option("--comment", default="", help="A remark for the audit trail.")
_revision = click.option(
    "--revision",
    type=click.IntRange(0),
    default=0,
    help="Change only the revision that `policies list` has shown; fail if another change was made since.",
)


@click.group("policies")
def command() -> None:
    """Read, check and change the policies of classifications.

    An override is kept in the database and counts at all nodes within seconds, over the policy file and the environment.
    These commands call a running service: name it with --target or --connection. docs/policies.md explains them.

    \b
    Examples:
      token-service policies list --connection production --overrides
      token-service policies get --connection production --client web
      token-service policies set --connection production internal.access_token_ttl=5m --comment INC-17
      token-service policies diff --connection production --file policies.toml
      token-service policies reset --connection production internal.access_token_ttl
    """


@command.command("list", cls=SettingsCommand)
@service_options
@output_option
@click.option("--overrides", is_flag=True, help="Only settings that are overridden.")
@click.option("--classification", default="", help="Only settings of this classification.")
def list_(service: Service, output: str, classification: str, *, overrides: bool) -> None:
    """Show every setting with its value and its source. The caller needs `admin.read`.

    \b
    Examples:
      token-service policies list --target 127.0.0.1:50051
      token-service policies list --connection production --overrides -o json
    """
    response = _policies(service)
    kept = [
        value
        for value in response.values
        if (not overrides or value.source == "override")
        and (not classification or value.path.rpartition(".")[0] == classification)
    ]
    _show(response, kept, output)


@command.command("get", cls=SettingsCommand)
@service_options
@output_option
@click.argument("paths", nargs=-1, metavar="[CLASSIFICATION.SETTING]...")
@click.option("--client", default="", help="The policy that applies to this client.")
@click.option("--audience", multiple=True, help="With --client: an audience of the request. Repeatable.")
def get(service: Service, output: str, paths: Sequence[str], client: str, audience: Sequence[str]) -> None:
    """Show some settings, or the policy of a client with what decides each value. The caller needs `admin.read`.

    \b
    Examples:
      token-service policies get --connection production internal.access_token_ttl
      token-service policies get --connection production --client web --audience https://orders.example.org
    """
    if bool(paths) == bool(client):
        raise click.UsageError("give either settings or --client")
    response = _policies(service, client_id=client, audience=audience)
    known = {value.path: value for value in response.values}
    for path in paths:
        if path not in known:
            raise click.UsageError(f"{path} is no setting of a classification; `policies list` shows them")
    _show(response, [known[path] for path in paths] if paths else response.values, output)


@command.command("set", cls=SettingsCommand)
@service_options
@output_option
@click.argument("assignments", nargs=-1, required=True, metavar="CLASSIFICATION.SETTING=VALUE...")
@_revision
@_comment
def set_(service: Service, output: str, assignments: Sequence[str], revision: int, comment: str) -> None:
    """Override settings of the policy file at all nodes. The caller needs `admin.write`.

    A value has the notation of the policy file. Text needs no quotation marks here.

    \b
    Examples:
      token-service policies set --connection production internal.access_token_ttl=5m internal.rotate=false
      token-service policies set --connection production 'public.rates={ issue_per_client = "100/1m" }' --revision 4
    """
    from token_service.v1 import admin_service_pb2 as pb

    request = pb.SetPoliciesRequest(changes=_changes(assignments), revision=revision, comment=comment)
    _show_changed(service.call(service.admin.SetPolicies, request), output)


@command.command("reset", cls=SettingsCommand)
@service_options
@output_option
@click.argument("paths", nargs=-1, metavar="[CLASSIFICATION.SETTING]...")
@click.option("--all", "everything", is_flag=True, help="Remove all overrides.")
@_revision
@_comment
def reset(
    service: Service, output: str, paths: Sequence[str], revision: int, comment: str, *, everything: bool
) -> None:
    """Remove overrides, so that the policy file counts again. The caller needs `admin.write`.

    \b
    Examples:
      token-service policies reset --connection production internal.access_token_ttl
      token-service policies reset --connection production --all --comment "end of INC-17"
    """
    from token_service.v1 import admin_service_pb2 as pb

    if bool(paths) == everything:
        raise click.UsageError("give either settings or --all")
    request = pb.ResetPoliciesRequest(paths=paths, revision=revision, comment=comment)
    _show_changed(service.call(service.admin.ResetPolicies, request), output)


@command.command("diff", cls=SettingsCommand)
@service_options
@output_option
@click.argument("assignments", nargs=-1, metavar="[CLASSIFICATION.SETTING=VALUE]...")
@click.option("--file", "file", type=click.File("rb"), help="A policy file, `-` for standard input.")
def diff(service: Service, output: str, assignments: Sequence[str], file: BinaryIO | None) -> None:
    """Tell whether a policy file or overrides would be accepted, and what they would change. Changes nothing.

    Exit code 6 if they would be refused. The caller needs `admin.read`.

    \b
    Examples:
      token-service policies diff --connection production --file policies.toml
      token-service policies diff --connection production internal.access_token_ttl=5m
    """
    from token_service.v1 import admin_service_pb2 as pb

    if bool(assignments) == (file is not None):
        raise click.UsageError("give either settings with values or --file")
    if file is not None:
        try:
            request = pb.CheckPoliciesRequest(file=file.read().decode())
        except UnicodeDecodeError:
            raise click.UsageError("the policy file is not UTF-8") from None
    else:
        request = pb.CheckPoliciesRequest(overrides=_changes(assignments))
    response = service.call(service.admin.CheckPolicies, request)
    if output == "json":
        show_message(response, output, lambda _: ())
    elif not response.accepted:
        click.echo("refused:")
        for problem in response.problems:
            click.echo(f"  {visible(problem)}")
    else:
        click.echo("accepted")
        _show_differences(response.differences)
        if response.omitted_differences:
            click.echo(f"and {response.omitted_differences} more")
    if not response.accepted:
        answer_no()


def _policies(service: Service, **fields: Any) -> pb.GetPoliciesResponse:
    from token_service.v1 import admin_service_pb2 as pb

    return service.call(service.admin.GetPolicies, pb.GetPoliciesRequest(**fields))


def _changes(assignments: Sequence[str]) -> pb.PolicyChanges:
    from token_service.v1 import admin_service_pb2 as pb

    changes = pb.PolicyChanges()
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"{assignment} is not CLASSIFICATION.SETTING=VALUE")
        changes.values.add(path=path.strip(), value=_toml(value.strip()))
    return changes


def _toml(text: str) -> str:
    """Return a value in the notation of the policy file. Text that is no such value becomes a quoted one."""
    try:
        tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text


def _show(response: pb.GetPoliciesResponse, values: Sequence[pb.PolicyValue], output: str) -> None:
    if output == "json":
        kept = [_copy(value) for value in values]
        del response.values[:]
        response.values.extend(kept)
        show_message(response, output, lambda _: ())
        return
    show_table(("SETTING", "VALUE", "SOURCE"), [(each.path, each.value, each.source) for each in values])
    if response.classification:
        click.echo(f"classification  {visible(response.classification)}")
    click.echo(f"revision        {response.revision}")
    if response.updated_by:
        changed = f"{timestamp_text(response, 'update_time')} by {response.updated_by}"
        click.echo(f"last change     {visible(changed)}")
    if response.problem:
        click.echo(f"problem         {visible(response.problem)}")


def _copy(value: pb.PolicyValue) -> pb.PolicyValue:
    copy = type(value)()
    copy.CopyFrom(value)
    return copy


def _show_changed(response: pb.SetPoliciesResponse | pb.ResetPoliciesResponse, output: str) -> None:
    if output == "json":
        show_message(response, output, lambda _: ())
        return
    click.echo(f"the overrides have revision {response.revision}")
    _show_differences(response.differences)


def _show_differences(differences: Sequence[pb.PolicyDifference]) -> None:
    if not differences:
        click.echo("no value in force changes")
        return
    show_table(("SETTING", "BEFORE", "AFTER"), [(each.path, each.before, each.after) for each in differences])
