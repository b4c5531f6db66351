"""Commands on the database, which need no running node."""

from __future__ import annotations

import asyncio
import getpass
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from token_service import __version__
from token_service.app.adapters import audit_keys_of, new_node_id, open_core, open_stores, sector_documents
from token_service.app.core import Core
from token_service.app.personal_data_start import settle_personal_data
from token_service.config import Settings, load_pairwise_key, prepare_data_dir
from token_service.config.policy_file import PolicyFile
from token_service.core.access.caller import Caller
from token_service.core.administration.clients import ClientAdministration
from token_service.core.clients.profile import ProfileRules
from token_service.core.events.audit import Audit
from token_service.core.events.event import Actor
from token_service.core.issuing.personal_access_tokens import PersonalAccessTokens
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.manager import KeyManager
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.key_revocation import KeyRevocation
from token_service.core.revocation.log import RevocationDraft, RevocationLog
from token_service.core.revocation.revoker import carry_out
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.reports import REPORT_AGE
from token_service.core.subscribers.waits import Waits
from token_service.errors import ConfigurationError
from token_service.stores.sql import SqlStores, migrations
from token_service.stores.sql.migrations.step import Step
from token_service.stores.sql.personal_changes import PersonalDataChanges
from token_service.telemetry import Audit as AuditTrail
from token_service.tokens.revocation import Cursor, RevocationTarget


def operator() -> Caller:
    """Return the user of the operating system who runs a command, and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = f"uid-{os.getuid()}"
    return Caller.operator(f"{user}@{socket.gethostname()}")


async def migrate(settings: Settings, progress: Callable[[int, int], None] = lambda _done, _all: None) -> str:
    """Migrate the database to the current schema; return the revision of the schema.

    `progress` is called with the number of migrations done and of all missing ones.
    """
    await asyncio.to_thread(prepare_data_dir, settings.data_dir)
    async with open_stores(settings) as stores:
        return await stores.migrate(progress)


async def missing_migrations(settings: Settings) -> tuple[str | None, Sequence[Step]]:
    """Return the schema revision of the database, or None without a schema, and the migrations that `migrate` would run.

    Changes nothing. Raises `NewerSchemaError`, `ConfigurationError` and `StoreUnavailableError`.
    """
    return await migrations.missing(settings.database_url)


async def undoable_migrations(settings: Settings, to: str) -> tuple[str | None, Sequence[Step]]:
    """Return the schema revision of the database, and the migrations that `undo_migrations` would undo. Changes nothing.

    Raises `NewerSchemaError`, `ConfigurationError` and `StoreUnavailableError`.
    """
    return await migrations.undoable(settings.database_url, to)


async def undo_migrations(
    settings: Settings, to: str, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> None:
    """Undo the migrations after the revision `to`.

    Raises `ConfigurationError` if a node of this version runs, because it needs what would be deleted.
    """
    revision, undone = await migrations.undoable(settings.database_url, to)
    if not undone:
        return
    if revision == migrations.HEAD:
        async with open_stores(settings) as stores:
            reports = await stores.nodes.reports(REPORT_AGE, purge=False)
        running = [each.node_id for each in reports if each.details and each.details.version == __version__]
        if running:
            raise ConfigurationError(
                f"nodes of this version run on the database and need its schema: {', '.join(running)}; stop them first "
                "(a node that was killed counts as running for 10 s)"
            )
    await migrations.undo(settings.database_url, to, progress)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a database, for commands that read and change them."""

    keyring: Keyring
    manager: KeyManager
    subscribers: Subscribers
    waits: Waits
    log: RevocationLog
    audit: Audit
    operator: Caller
    personal_data: PersonalDataChanges
    rewrap_sealed: Callable[[Actor], Awaitable[int]]
    """Encrypts the headers of event streams and the secrets of webhooks again; returns how many used another key."""

    async def rewrap(self) -> int:
        """Encrypt everything that the first key-encryption key should encrypt; return how many used another one.

        Raises `ConfigurationError` and `StoreUnavailableError`.
        """
        actor = self.operator.actor()
        sealed = await self.rewrap_sealed(actor)
        return sealed + await self.manager.rewrap(actor) + await self.personal_data.rewrap(actor)

    async def revoke(self, key_id: str, now: float, comment: str) -> Cursor:
        """Revoke a key without a node; return a place in the log that includes the revocation.

        Raises `KeyNotFoundError`, `InvalidRequestError` and `StoreUnavailableError`.
        """
        revocation = KeyRevocation(
            self.keyring, lambda draft, actor: carry_out(draft, actor, self.append, self.manager, self.audit)
        )
        return (await revocation.revoke(self.operator, key_id, comment, now)).cursor

    async def append(self, drafts: Sequence[RevocationDraft]) -> Cursor:
        """Append to the log of the database; return a place in it that includes the drafts."""
        head, _ = await self.log.append(drafts)
        return Cursor(head.epoch, head.sequence)

    async def wait_applied(self, cursor: Cursor, timeout: float) -> tuple[int, int]:
        """Wait for the confirmations of the subscribers of all nodes. See `Waits.wait_applied`."""
        self.subscribers.start_over(cursor.epoch)  # a command has no replica that names the log
        return await self.waits.wait_applied(cursor, timeout)


def _keys(core: Core, stores: SqlStores) -> Keys:
    """Return the keys of a core.

    The log is that of the database without `FailoverLog`: these commands must not renew it after a failover.
    """

    async def rewrap_sealed(actor: Actor) -> int:
        return await core.ssf.rewrap() + await core.webhooks.secrets.rewrap(stores.webhooks, actor)

    return Keys(
        keyring=core.keyring,
        manager=core.key_manager,
        subscribers=core.subscribers,
        waits=core.waits,
        log=stores.log,
        audit=core.ports.audit,
        operator=operator(),
        personal_data=stores.personal_data_changes,
        rewrap_sealed=rewrap_sealed,
    )


@asynccontextmanager
async def administer_keys(settings: Settings) -> AsyncIterator[Keys]:
    """Load the keys of the database for a command that changes them.

    Running nodes detect a change themselves. An unavailable HSM fails only the commands that need it.
    """
    audit = AuditTrail()
    policies = Policies(PolicyBook())  # no command here uses a policy
    node_id = new_node_id()
    async with open_stores(settings, await audit_keys_of(settings), node_id) as stores:
        await stores.require_current()
        async with open_core(settings, stores, audit, node_id, policies=policies, needs_module=False) as core:
            await core.keyring.refresh()
            yield _keys(core, stores)


@dataclass(frozen=True, slots=True)
class PersonalTokens:
    """The personal access tokens of a database, for commands that read and change them."""

    tokens: PersonalAccessTokens
    keys: Keys

    async def revoke(self, token_id: str, now: float, comment: str) -> None:
        """Revoke a token without a node. Raises the errors of `PersonalAccessTokens.revoke`."""
        session = await self.tokens.find(self.keys.operator, token_id)
        draft = draft_of(RevocationTarget.SESSION, str(session.id), now, comment=comment)
        await carry_out(
            draft, self.keys.operator.actor(), self.keys.append, self.keys.manager, self.keys.audit
        )


@asynccontextmanager
async def administer_personal_tokens(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[PersonalTokens]:
    """Administer the personal access tokens of the database. A database without keys gets its first ones."""
    audit = AuditTrail()
    policies = Policies(PolicyFile.of(settings, environ).load().book)
    node_id = new_node_id()
    async with open_stores(settings, await audit_keys_of(settings), node_id) as stores:
        await stores.require_current()
        async with open_core(settings, stores, audit, node_id, policies=policies, needs_module=False) as core:
            await settle_personal_data(settings, stores)
            await core.key_rotation.ensure()
            await core.clients.refresh()
            keys = _keys(core, stores)
            try:
                yield PersonalTokens(core.personal_access_tokens, keys)
            finally:
                audit.flush()


@asynccontextmanager
async def administer_clients(
    settings: Settings, environ: Mapping[str, str]
) -> AsyncIterator[ClientAdministration]:
    """Administer the clients of the database. Running nodes detect a change themselves."""
    policies = Policies(PolicyFile.of(settings, environ).load().book)
    has_pairwise_key = await asyncio.to_thread(load_pairwise_key, settings) is not None
    async with open_stores(settings, await audit_keys_of(settings), new_node_id()) as stores:
        await stores.require_current()

        async def append(drafts: Sequence[RevocationDraft]) -> Cursor:
            head, _ = await stores.log.append(drafts)
            return Cursor(head.epoch, head.sequence)

        async def changed(_revision: int) -> None:
            """No registry is in memory here."""

        yield ClientAdministration(
            stores.clients,
            policies,
            append,
            changed,
            secrets.token_bytes,
            AuditTrail(),
            sector_documents(settings) if has_pairwise_key else None,
            ProfileRules(settings.minimum_security_profile, settings.signing_algorithm),
        )
