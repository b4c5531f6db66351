"""`token-service keys`: administration of the signing keys, in the database or at a running service.

Running nodes load a change of the database within moments, because they poll the revision of the keys.
"""

from __future__ import annotations

import click

from token_service.cli.keys import certificates, encryption, lifecycle


@click.group("keys")
def command() -> None:
    """Administer the signing keys.

    With --target or --connection, `list`, `prepare`, `activate`, `retire` and `revoke` call a running service. Otherwise
    the commands work directly on the database, even while no node runs, and need the settings of the service: database,
    key-encryption key, signing algorithm and, if used, the HSM. Running nodes load a change automatically. docs/keys.md
    explains when to use which command.

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
