"""`token-service keys csr` and `import-certificate`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, BinaryIO, TextIO

import click

from token_service.cli.keys.administration import (
    KeyCommand,
    administer,
    format_option,
    key_id_argument,
)
from token_service.cli.keys.shown_key import ShownKey, show_key
from token_service.cli.settings_options import settings_options
from token_service.config import Settings
from token_service.core.keys.store import StoredSigningKey

if TYPE_CHECKING:
    from token_service.app.administration import Keys


@click.command("csr", cls=KeyCommand, short_help="Write a certificate request.")
@settings_options
@key_id_argument
@click.option(
    "--subject", required=True, help="The subject of the certificate: `CN=tokens.example.com,O=Example`."
)
@click.option(
    "--out",
    type=click.File("w", atomic=True),
    default="-",
    help="The file to write; by default standard output.",
)
def csr(settings: Settings, key_id: str, subject: str, out: TextIO) -> None:
    """Write a certificate request (PKCS#10, PEM) for a signing key.

    The private key stays in its place, even in an HSM.

    \b
    Examples:
      token-service keys csr KEY_ID --subject "CN=tokens.example.com" > request.pem
      token-service keys csr KEY_ID --subject "CN=tokens.example.com,O=Example" --out request.pem
    """
    from token_service.certificates.signing_keys import make_csr

    async def make(keys: Keys) -> str:
        signer = keys.keyring.open_signer(key_id)
        public_key = keys.keyring.get(key_id).public_key
        return await make_csr(public_key, signer.sign, subject, made_for=signer.algorithm)

    try:
        out.write(administer(settings, make))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@click.command("import-certificate", cls=KeyCommand, short_help="Publish a certificate chain with a key.")
@settings_options
@format_option
@key_id_argument
@click.argument("file", type=click.File("rb"))
def import_certificate(settings: Settings, output: str, key_id: str, file: BinaryIO) -> None:
    """Publish a certificate chain with a signing key, as `x5c` in the key set.

    FILE has the certificates in PEM, the key's certificate first and each signed by the next; `-` is standard
    input. The chain replaces an earlier one. Succeeds if the chain is already published.

    \b
    Examples:
      token-service keys import-certificate KEY_ID chain.pem
      cat key.pem intermediate.pem root.pem | token-service keys import-certificate KEY_ID -
    """
    from token_service.certificates.signing_keys import check_chain

    chain = file.read()

    async def publish(keys: Keys) -> StoredSigningKey:
        key = keys.keyring.get(key_id)
        return await keys.manager.set_certificates(
            keys.operator.actor(), key_id, check_chain(chain, key.public_key, time.time())
        )

    try:
        show_key(ShownKey.of(administer(settings, publish)), output)
    except ValueError as error:
        raise click.ClickException(f"{getattr(file, 'name', '-')}: {error}") from None
