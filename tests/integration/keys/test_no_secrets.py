"""The database and the logs after the use of every kind of key contain no private key, no MAC key, no key-encryption
key and no PIN.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Iterator

import asyncpg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.integration.calls import Api, Follower, refused
from tests.integration.keys.authorities import Authority
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from tests.support.postgres import driver_url
from tests.support.softhsm import SoftHsmToken
from token_service.core.keys.keyring import mac_context, signing_context
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.signers.private_key import load_private_key
from token_service.stores.sql import SqlStores
from token_service.tokens.secret import Secret
from token_service.v1 import key_service_pb2


def private_parts(private: object) -> Iterator[bytes]:
    """Yield each number of a private key, and the whole key."""
    if isinstance(private, Secret):
        yield private.reveal()
        return
    assert isinstance(private, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey)
    yield private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    if isinstance(private, RSAPrivateKey):
        numbers = private.private_numbers()
        for number in (numbers.d, numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp):
            yield number.to_bytes((number.bit_length() + 7) // 8)
    elif isinstance(private, EllipticCurvePrivateKey):
        yield private.private_numbers().private_value.to_bytes(32)
    else:
        yield private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield the encodings of a secret. Three shifts of base64 cover every alignment."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for shift in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            text = encode(bytes(shift) + secret)
            yield text[4 : len(text) - 4]


async def dump(url: str) -> bytes:
    """Return every value of every table, as bytes and as text."""
    connection = await asyncpg.connect(driver_url(url))
    parts: list[bytes] = []
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {"signing_keys", "mac_keys", "sessions", "revocations"} <= {row[0] for row in tables}
        for (table,) in tables:
            for row in await connection.fetch(f'SELECT * FROM "{table}"'):
                parts += (
                    value if isinstance(value, bytes) else str(value).encode() for value in row.values()
                )
                parts.append(repr(dict(row)).encode())
    finally:
        await connection.close()
    return b"\n".join(parts)


@pytest.mark.slow
async def test_a_dump_of_database_and_logs_contains_no_secret(postgres_url: str) -> None:
    with SoftHsmToken() as token:
        keks = [key_encryption_key(), key_encryption_key()]
        env = {
            "TOKEN_SERVICE_DATABASE_URL": postgres_url,
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": ",".join(keks),
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms",
            "TOKEN_SERVICE_LOG_LEVEL": "debug",
        }
        hsm = {
            "TOKEN_SERVICE_PKCS11_MODULE": token.module,
            "TOKEN_SERVICE_PKCS11_TOKEN": token.label,
            "TOKEN_SERVICE_PKCS11_PIN": token.pin,
            **token.environment,
        }
        said = ""
        opaque: list[str] = []
        with Node(env=env, ready_timeout=60) as node:
            said += await live(node, Operator(env), opaque)
            # The service switches to an HSM: keys in the database stay, new keys are made in the HSM.
            node._settings.update(hsm)
            node.restart()
            operator = Operator({**env, **hsm})
            said += await live(node, operator, opaque)
            async with Api(node.grpc_address) as api:
                page = await api.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest(), timeout=30)
            assert {key.provider for key in page.signing_keys} == {"local", "pkcs11"}
            # No output repeats a wrong PIN. It counts as a try, so only one.
            said += str(await operator.says("list", PKCS11_PIN="1" + token.pin))
            said += str(await operator.says("list", KEY_ENCRYPTION_KEY=key_encryption_key()))
            said += node.log_text()
            everything = said.encode() + await dump(postgres_url)
            secrets = [
                token.pin.encode(),
                *(text.encode() for text in opaque),
                *(b64decode(kek) for kek in keks),
            ]
            secrets += [part async for part in stored_secrets(postgres_url, keks)]
    assert len(secrets) > 20
    for secret in secrets:
        for form in forms(secret):
            assert len(form) >= 16
            assert form not in everything
    assert b"PRIVATE KEY" not in everything
    assert not re.search(rb"eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}\.", everything), "a token"


async def live(node: Node, operator: Operator, opaque: list[str]) -> str:
    """Do everything possible with keys and return the output of commands and failures."""
    said: list[object] = []
    async with Api(node.grpc_address) as api, Follower(api) as follower:
        await eventually(lambda: follower.caught_up)
        issued = await api.issue(token_types=[1, 2, 3, 4])
        refreshed = await api.refresh(issued.refresh_token)
        # The secret within a token: without prefix, versions and ids, and without the MAC.
        opaque += [
            each[40:-25] for each in (issued.refresh_token, issued.session_token, refreshed.refresh_token)
        ]
        said += [await operator.says("prepare", "--algorithm", name) for name in ("RS256", "EdDSA", "ES256")]
        key_id = (await operator.run("list", "--state", "prepared", "--format", "id")).splitlines()[0]
        request = await operator.says("csr", key_id, "--subject", "CN=x")
        said.append(request)
        chain = Authority("Root").certify(x509.load_pem_x509_csr(request.out.encode()))
        said.append(await operator.says("import-certificate", key_id, "-", stdin=chain))
        said.append(await operator.says("import-certificate", key_id, "-", stdin="nonsense"))
        active = await operator.run("list", "--state", "active", "--format", "id")
        said.append(await operator.says("retire", active))
        said.append(await operator.says("revoke", active))
        said.append(await operator.says("rewrap"))
        said.append(await operator.says("list", "--format", "json"))
        activation = key_service_pb2.ActivateSigningKeyRequest(key_id=active, force=True)
        said.append(await refused(api.keys.ActivateSigningKey(activation, timeout=30)))
        said.append(await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest(), timeout=30))
        said.append(follower.key_sets)
    return "\n".join(map(str, said))


async def stored_secrets(url: str, keks: list[str]):
    wrap = AesGcmKeyWrap([Secret(b64decode(kek)) for kek in keks])
    async with SqlStores(url) as stores:
        stored = await stores.keys.load()
    kinds = set()
    for key in stored.signing_keys:
        if key.private_key:
            kinds.add(key.algorithm)
            data = wrap.unwrap(key.private_key, signing_context(key.key_id), key.wrapping_key_id)
            for part in private_parts(load_private_key(key.algorithm, data)):
                yield part
    assert len(kinds) == 3
    for mac in stored.mac_keys:
        yield wrap.unwrap(mac.wrapped, mac_context(mac.version), mac.wrapping_key_id).reveal()
