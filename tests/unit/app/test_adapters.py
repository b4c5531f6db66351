"""The core of a node has the adapters that its settings name."""

from __future__ import annotations

from pathlib import Path

from tests.unit.config.loaded import KEY, load
from tests.unit.core.node import RecordingAudit
from token_service.app.adapters import open_core, open_stores
from token_service.core.access.document_clients import DocumentClients
from token_service.core.clients.documents import DocumentRules
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.fetching.client_documents import ClientDocuments


async def test_documents_and_pairwise_subjects_are_off_unless_the_settings_turn_them_on(
    tmp_path: Path,
) -> None:
    on = {
        "CLIENT_METADATA_DOCUMENTS": "true",
        "CLIENT_METADATA_DOCUMENT_HOSTS": "app.example, *.corp.example",
        "CLIENT_METADATA_DOCUMENT_SCOPES": "openid mcp",
        "CLIENT_METADATA_DOCUMENT_CLASSIFICATION": "public",
        "PAIRWISE_KEY": KEY,
    }
    rules = DocumentRules(("app.example", "*.corp.example"), ("openid", "mcp"), "public")
    for chosen in ({}, on):
        settings = load(DATA_DIR=tmp_path, **chosen)
        async with (
            open_stores(settings) as stores,
            open_core(settings, stores, RecordingAudit(), "node", policies=Policies(PolicyBook())) as core,
        ):
            assert isinstance(core.known_clients, DocumentClients) is bool(chosen)
            assert isinstance(core.ports.client_documents, ClientDocuments) is bool(chosen)
            assert core.options.client_documents == (rules if chosen else DocumentRules())
            assert (core.ports.pairwise_key is not None) is bool(chosen)
            assert core.ports.sector_documents is not None
