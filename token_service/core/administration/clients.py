"""CreateClient, GetClient, ListClients, UpdateClient, RotateClientSecret, DisableClient, EnableClient, DeleteClient."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.clients.client import (
    MAX_LIVE_SECRETS,
    METADATA_FIELDS,
    AuthMethod,
    Client,
    ClientMetadata,
    ClientSecret,
    ClientState,
    SubjectType,
)
from token_service.core.clients.client_secret import new_secret
from token_service.core.clients.profile import ProfileRules
from token_service.core.clients.sectors import SectorDocuments, check_sector_document
from token_service.core.clients.store import ClientEnd, ClientPosition, ClientStore
from token_service.core.clients.validation import check_client_id, check_metadata
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.limits import DEFAULT_PAGE, MAX_CLIENT_ID, MAX_COMMENT, Checks
from token_service.core.page_tokens import format_page_token, parse_page_token, text_id
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import DAY
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import RevocationDraft
from token_service.errors import (
    ClientChangedError,
    ClientExistsError,
    ClientNotFoundError,
    OverloadedError,
    StoreUnavailableError,
)
from token_service.tokens import base64url
from token_service.tokens.revocation import Cursor, RevocationTarget
from token_service.tokens.secret import Secret

DEFAULT_OVERLAP: Final = 1.0 * DAY
"""Seconds for which a replaced secret stays live if the request names no time."""
MAX_OVERLAP: Final = 30.0 * DAY
MIN_SECRET_TTL: Final = 60.0
MAX_SECRET_TTL: Final = 3650.0 * DAY
_OF_SECTOR: Final = ("subject_type", "sector_identifier_uri", "redirect_uris")
"""Settings that decide the sector of a client and who may be in it."""
_PAIRWISE_KEY: Final = "TOKEN_SERVICE_PAIRWISE_KEY"
_MAX_ATTEMPTS: Final = 10
"""Attempts of a change without an etag while other callers change the client."""


@dataclass(frozen=True, slots=True)
class ClientPage:
    """Clients, newest first. `next_page_token` is empty on the last page."""

    clients: Sequence[Client]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class ClientWithSecret:
    """A client, and the secret that was made for it. The secret can't be read again."""

    client: Client
    secret: Secret | None


@dataclass(frozen=True, slots=True)
class EndedClient:
    """A disabled client, and a place in the log that includes the revocation of its tokens."""

    client: Client
    cursor: Cursor


class ClientAdministration:
    """Registers clients and changes them. Each method raises `PermissionDeniedError` and `StoreUnavailableError`.

    `etag` is the etag of the client that the caller has read; empty: any.
    """

    def __init__(
        self,
        store: ClientStore,
        policies: Policies,
        append: Callable[[Sequence[RevocationDraft]], Awaitable[Cursor]],
        changed: Callable[[int], Awaitable[None]],
        entropy: Entropy,
        audit: Audit,
        sectors: SectorDocuments | None = None,
        profile: ProfileRules = ProfileRules(),  # noqa: B008 - immutable
    ) -> None:
        """`append` appends to the revocation log; `changed` brings the registry of this node to a revision.

        `sectors`: the documents of sectors; None: the service has no key for pairwise subjects. `profile`: what the
        security profiles demand of registrations.
        """
        self._store = store
        self._policies = policies
        self._append = append
        self._changed = changed
        self._entropy = entropy
        self._audit = audit
        self._sectors = sectors
        self._profile = profile

    async def create(
        self,
        caller: Caller,
        client_id: str,
        metadata: ClientMetadata,
        now: float,
        *,
        secret_ttl: float | None = None,
    ) -> ClientWithSecret:
        """Register a client, by default under a random id, and make its secret if it authenticates with one.

        `secret_ttl`: lifetime of the secret in seconds; None: unlimited. Raises `InvalidRequestError` and
        `ClientExistsError`.
        """
        admit(caller, UseCase.CREATE_CLIENT)
        checks = Checks()
        if client_id:
            check_client_id(checks, client_id)
        check_metadata(checks, metadata, self._policies.book.policies)
        self._profile.check(checks, metadata)
        _check_ttl(checks, metadata, secret_ttl)
        checks.done()
        await self._require_sector(metadata)
        secret: Secret | None = None
        secrets: tuple[ClientSecret, ...] = ()
        if metadata.token_endpoint_auth_method is AuthMethod.CLIENT_SECRET_BASIC:
            secret, at_rest = new_secret(self._entropy, now, None if secret_ttl is None else now + secret_ttl)
            secrets = (at_rest,)
        client = Client(
            **{name: getattr(metadata, name) for name in METADATA_FIELDS},
            client_id=client_id or base64url.encode(self._entropy(16)),
            secrets=secrets,
            create_time=now,
            update_time=now,
        )
        event = _event(caller, Action.CLIENT_CREATED, client.client_id)
        created = await self._store.create(client, [event])
        if created is None:
            raise ClientExistsError(metadata={"client_id": client.client_id})
        await self._adopt(event, created)
        return ClientWithSecret(created, secret)

    async def get(self, caller: Caller, client_id: str) -> Client:
        """Return a client. Raises `InvalidRequestError` and `ClientNotFoundError`."""
        admit(caller, UseCase.GET_CLIENT)
        return await self._existing(client_id)

    async def list(self, caller: Caller, page_size: int, page_token: str) -> ClientPage:
        """List a page of the clients; a size of 0 is the default. Raises `InvalidRequestError`."""
        admit(caller, UseCase.LIST_CLIENTS)
        checks = Checks()
        after = checks.page(page_size, page_token, _parse_position)
        checks.done()
        size = page_size or DEFAULT_PAGE
        rows = await self._store.list(size + 1, after)
        page = rows[:size]
        return ClientPage(page, _format_position(page[-1]) if len(rows) > size else "")

    async def update(
        self, caller: Caller, client_id: str, changes: Mapping[str, Any], now: float, *, etag: str = ""
    ) -> Client:
        """Change the settings that `changes` names.

        The secrets of a client that no longer authenticates with one are deleted. Raises `InvalidRequestError`,
        `ClientNotFoundError` and `ClientChangedError`.
        """
        admit(caller, UseCase.UPDATE_CLIENT)
        checks = Checks()
        if not changes:
            checks.add("update_mask", "is required: name the fields to change")
        for name in changes:
            if name not in METADATA_FIELDS:
                checks.add("update_mask", f"has {name[:64]}; allowed: {', '.join(METADATA_FIELDS)}")
        checks.done()

        async def change(client: Client) -> Client:
            changed = structs.replace(client, **changes, update_time=now)
            found = Checks()
            check_metadata(found, changed, self._policies.book.policies)
            self._profile.check(found, changed)
            found.done()
            if any(getattr(changed, name) != getattr(client, name) for name in _OF_SECTOR):
                await self._require_sector(changed)
            if changed.token_endpoint_auth_method is not AuthMethod.CLIENT_SECRET_BASIC:
                changed = structs.replace(changed, secrets=())
            return changed

        event = _event(caller, Action.CLIENT_UPDATED, client_id, fields=",".join(changes))
        saved = await self._save(client_id, etag, change, event)
        await self._adopt(event, saved)
        return saved

    async def rotate_secret(
        self,
        caller: Caller,
        client_id: str,
        now: float,
        *,
        etag: str = "",
        overlap: float = DEFAULT_OVERLAP,
        secret_ttl: float | None = None,
    ) -> ClientWithSecret:
        """Make another secret. The newest live one stays live for `overlap` seconds, older ones end at once.

        Raises `InvalidRequestError`, `ClientNotFoundError` and `ClientChangedError`.
        """
        admit(caller, UseCase.ROTATE_CLIENT_SECRET)
        checks = Checks()
        if not 0 <= overlap <= MAX_OVERLAP:
            checks.add("overlap", f"is not from 0 to {MAX_OVERLAP:.0f} seconds")
        _check_ttl(checks, None, secret_ttl)
        checks.done()
        secret, at_rest = new_secret(self._entropy, now, None if secret_ttl is None else now + secret_ttl)

        async def change(client: Client) -> Client:
            if client.token_endpoint_auth_method is not AuthMethod.CLIENT_SECRET_BASIC:
                wrong = Checks()
                wrong.add(
                    "client_id",
                    f"is a client with {client.token_endpoint_auth_method}; only client_secret_basic has secrets",
                )
                wrong.done()
            kept = client.live_secrets(now)[-(MAX_LIVE_SECRETS - 1) :] if overlap else ()
            ending = tuple(
                structs.replace(old, expire_time=min(now + overlap, old.expire_time or now + overlap))
                for old in kept
            )
            return structs.replace(client, secrets=(*ending, at_rest), update_time=now)

        event = _event(caller, Action.CLIENT_SECRET_ROTATED, client_id, secret_id=at_rest.secret_id)
        saved = await self._save(client_id, etag, change, event)
        await self._adopt(event, saved)
        return ClientWithSecret(saved, secret)

    async def disable(
        self, caller: Caller, client_id: str, now: float, *, etag: str = "", comment: str = ""
    ) -> EndedClient:
        """Disable a client and revoke all of its tokens, in one transaction. Repeating the call has no effect.

        Raises `InvalidRequestError`, `ClientNotFoundError` and `ClientChangedError`.
        """
        admit(caller, UseCase.DISABLE_CLIENT)
        event = _event(caller, Action.CLIENT_DISABLED, client_id, comment)
        cursor = await self._end(client_id, ClientState.DISABLED, now, etag, event)
        client = await self._existing(client_id)
        await self._adopt(event, client, cursor=str(cursor))
        return EndedClient(client, cursor)

    async def enable(self, caller: Caller, client_id: str, now: float, *, etag: str = "") -> Client:
        """Let a disabled client get tokens again. Revoked tokens stay revoked.

        Raises `InvalidRequestError`, `ClientNotFoundError` and `ClientChangedError`.
        """
        admit(caller, UseCase.ENABLE_CLIENT)

        async def change(client: Client) -> Client:
            if client.state is ClientState.ACTIVE:
                return client
            return structs.replace(client, state=ClientState.ACTIVE, update_time=now)

        event = _event(caller, Action.CLIENT_ENABLED, client_id)
        saved = await self._save(client_id, etag, change, event)
        await self._adopt(event, saved)
        return saved

    async def delete(
        self, caller: Caller, client_id: str, now: float, *, etag: str = "", comment: str = ""
    ) -> Cursor:
        """Delete a client and revoke all of its tokens, in one transaction. Its id is never given away again.

        Raises `InvalidRequestError`, `ClientNotFoundError` and `ClientChangedError`.
        """
        admit(caller, UseCase.DELETE_CLIENT)
        event = _event(caller, Action.CLIENT_DELETED, client_id, comment)
        cursor = await self._end(client_id, ClientState.DELETED, now, etag, event)
        deleted = await self._store.get(client_id)
        if deleted is not None:
            await self._adopt(event, deleted, cursor=str(cursor))
        return cursor

    async def _end(
        self, client_id: str, state: ClientState, now: float, etag: str, event: AuditEvent
    ) -> Cursor:
        checks = Checks()
        checks.text("comment", event.comment, MAX_COMMENT)
        checks.done()
        for _ in range(_MAX_ATTEMPTS):
            client = await self._existing(client_id)
            _require_etag(client, etag)
            if client.state is state:
                return await self._append([])
            draft = draft_of(RevocationTarget.CLIENT, client_id, now, comment=event.comment)
            draft = replace(draft, client_end=ClientEnd(state, client.revision), event=event)
            cursor = await self._append([draft])
            ended = await self._store.get(client_id)
            if ended is not None and ended.state in {state, ClientState.DELETED}:
                return cursor
        raise _too_many_changes()

    async def _save(
        self, client_id: str, etag: str, change: Callable[[Client], Awaitable[Client]], event: AuditEvent
    ) -> Client:
        """Save what `change` returns for the current client; again if another caller has changed it meanwhile."""
        for _ in range(_MAX_ATTEMPTS):
            client = await self._existing(client_id)
            _require_etag(client, etag)
            changed = await change(client)
            if changed is client:
                return client
            saved = await self._store.save(changed, [event])
            if saved is not None:
                return saved
        raise _too_many_changes()

    async def _require_sector(self, metadata: ClientMetadata) -> None:
        """Raise `InvalidRequestError` if a client can't have the pairwise subjects that its settings name."""
        if metadata.subject_type is not SubjectType.PAIRWISE:
            return
        checks = Checks()
        if self._sectors is None:
            checks.add(
                "subject_type",
                f"is pairwise, which needs the setting {_PAIRWISE_KEY} or {_PAIRWISE_KEY}_FILE",
            )
        elif metadata.sector_identifier_uri:
            await check_sector_document(checks, metadata, self._sectors)
        checks.done()

    async def _existing(self, client_id: str) -> Client:
        checks = Checks()
        checks.text("client_id", client_id, MAX_CLIENT_ID, required=True)
        checks.done()
        client = await self._store.get(client_id)
        if client is None or client.state is ClientState.DELETED:
            raise ClientNotFoundError(metadata={"client_id": client_id})
        return client

    async def _adopt(self, event: AuditEvent, client: Client, **fields: str) -> None:
        details = {**event.fields, "revision": client.revision, **fields}
        self._audit.record(structs.replace(event, fields=details))
        with suppress(StoreUnavailableError):  # the change is durable, and the node follows it anyway
            await self._changed(client.revision)


def _event(caller: Caller, action: Action, client_id: str, comment: str = "", **fields: str) -> AuditEvent:
    return AuditEvent(
        action=action,
        actor=caller.actor(),
        target=Target("client", client_id, client_id=client_id),
        comment=comment,
        fields=fields,
    )


def _require_etag(client: Client, etag: str) -> None:
    if etag and etag != client.etag:
        raise ClientChangedError(metadata={"client_id": client.client_id, "etag": client.etag})


def _check_ttl(checks: Checks, metadata: ClientMetadata | None, ttl: float | None) -> None:
    if ttl is None:
        return
    if not MIN_SECRET_TTL <= ttl <= MAX_SECRET_TTL:
        checks.add("secret_ttl", f"is not from {MIN_SECRET_TTL:.0f} to {MAX_SECRET_TTL:.0f} seconds")
    if metadata is not None and metadata.token_endpoint_auth_method is not AuthMethod.CLIENT_SECRET_BASIC:
        checks.add("secret_ttl", "is only for client_secret_basic")


def _too_many_changes() -> OverloadedError:
    return OverloadedError("other callers kept changing the client; try again", retry_after=1.0)


def _format_position(client: Client) -> str:
    return format_page_token(client.create_time, client.client_id.encode())


def _parse_position(text: str) -> ClientPosition:
    micros, row_id = parse_page_token(text)
    return ClientPosition(micros / 1_000_000, text_id(row_id))
