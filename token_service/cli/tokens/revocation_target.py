"""The options that name what to revoke."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import click

_OPTIONS: Final = (
    click.option("--token-id", default=None, help="The `jti` of one access or ID token."),
    click.option("--session", default=None, help="The id of a session, with every token issued from it."),
    click.option("--subject", default=None, help="All tokens issued for a subject until now."),
    click.option("--client", default=None, help="All tokens issued to a client until now."),
    click.option("--key", default=None, help="All tokens signed with a key, permanently."),
    click.option("--everything", is_flag=True, help="All tokens issued until now."),
)
_FIELDS: Final = {
    "token_id": "token_id",
    "session": "session_id",
    "subject": "subject",
    "client": "client_id",
    "key": "key_id",
}
"""The field of the request for each option."""


def target_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each kind of target to a command that has `token`, and call it with `target`.

    `target` is a dictionary with the one field of a RevokeTokenRequest or PreviewRevocationRequest.
    """

    @wraps(function)
    def choose(token: str, **arguments: Any) -> None:
        given: dict[str, str | bool] = {"token": token} if token else {}
        for name, field in _FIELDS.items():
            if (value := arguments.pop(name)) is not None:
                given[field] = value
        if arguments.pop("everything"):
            given["everything"] = True
        if len(given) != 1:
            raise click.UsageError(
                "give one of TOKEN, --token-file, --token-id, --session, --subject, --client, --key and --everything"
            )
        function(target=given, **arguments)

    decorated: Callable[..., None] = choose
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
