"""`token-service keys`: what an operator does with the signing keys, straight on the database.

Running nodes take a change up within moments: they look at the revision of the keys all the time.
"""

from __future__ import annotations

import click

from token_service.cli.keys import certificates, encryption, lifecycle


@click.group("keys")
def command() -> None:
    """Look after the signing keys.

    These commands work on the database, also while no node runs, and need the settings of the service: its
    database, its key-encryption key, its signing algorithm and, if it has one, its HSM. Running nodes take a
    change up by themselves. docs/keys.md says when to do what.

    \b
    Examples:
      token-service keys list
      token-service keys activate --help
      token-service keys revoke KEY_ID --comment "the disk was stolen"
    """


for each in (
    lifecycle.list_,
    lifecycle.prepare,
    lifecycle.activate,
    lifecycle.retire,
    lifecycle.revoke,
    encryption.rewrap,
    certificates.csr,
    certificates.import_certificate,
):
    command.add_command(each)
