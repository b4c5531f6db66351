"""A node without a key-encryption key, while other nodes make tokens with MAC keys that it can't read."""

from __future__ import annotations

import secrets
import time
from base64 import b64decode
from pathlib import Path
from uuid import uuid4

from tests.integration.calls import REFRESH, SESSION, Api, refused
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from token_service.core.keys.keyring import mac_context
from token_service.core.keys.store import StoredMacKey
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.stores.sql.stores import SqlStores
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import MacKeys, OpaqueToken
from token_service.tokens.secret import Secret


async def add_mac_keys(url: str, kek: str, count: int) -> None:
    """Add MAC keys as the leading node does once per rotation period."""
    wrap = AesGcmKeyWrap([Secret(b64decode(kek))])
    async with SqlStores(url) as stores:

        async def added() -> bool:
            stored = await stores.keys.load()
            highest = max(key.version for key in stored.mac_keys)
            keys = [
                StoredMacKey(
                    version=version,
                    wrapped=wrap.wrap(Secret(secrets.token_bytes(32)), mac_context(version)),
                    wrapping_key_id=wrap.key_id,
                    create_time=time.time(),
                )
                for version in range(highest + 1, highest + 1 + count)
            ]
            return await stores.keys.save(stored.revision, (), keys)

        await eventually(added)


def forged() -> str:
    keys = MacKeys({60_000: Secret(b"k" * 32)}, 60_000)
    return OpaqueToken(TokenKind.REFRESH, 60_000, uuid4(), 0, Secret(b"s" * 32)).format(keys)


async def test_a_node_that_lacks_the_keys_asks_to_retry_and_ends_no_session(tmp_path: Path) -> None:
    old, new = key_encryption_key(), key_encryption_key()
    url = f"sqlite:///{tmp_path / 'token_service.db'}"
    env = {
        "TOKEN_SERVICE_DATABASE_URL": url,
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms",
    }
    both = {**env, "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": f"{new},{old}"}
    with Node(env={**env, "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": old}) as stuck, Node(env=both) as ahead:
        async with Api(stuck.grpc_address) as here, Api(ahead.grpc_address) as there:
            before = await here.issue(token_types=[REFRESH, SESSION])
            await Operator(both).run("rewrap")
            await add_mac_keys(url, new, 2)
            await eventually(
                lambda: "the stored keys can't be used, the last good ones stay in use" in stuck.log_text()
            )

            async def newer() -> bool:
                made = await there.issue(token_types=[REFRESH])
                return made.refresh_token[:7] != before.refresh_token[:7]  # only the version differs here

            await eventually(newer)
            made = await there.issue(token_types=[REFRESH, SESSION])
            for call in (
                here.refresh(made.refresh_token),
                here.validate(made.refresh_token),
                here.validate(made.session_token),
                here.revoke(token=made.refresh_token),
            ):
                failure = await refused(call)
                assert (failure.code.name, failure.reason) == ("UNAVAILABLE", "KEYS_STALE")
                assert failure.retry_after
            # Older tokens still work at this node, and its new tokens are valid at the other.
            refreshed = await here.refresh(before.refresh_token)
            assert not await there.why(refreshed.refresh_token)
            # With all keys at hand, an unknown version is just a forgery.
            assert (await refused(there.refresh(forged()))).reason == "REFRESH_TOKEN_INVALID"

            stuck._settings["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = f"{new},{old}"
            stuck.restart()
            assert not await here.why(made.session_token)
            assert (await here.refresh(made.refresh_token)).session_id == made.session_id
            assert (await refused(here.refresh(forged()))).reason == "REFRESH_TOKEN_INVALID"
