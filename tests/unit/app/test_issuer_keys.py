"""A reloaded policy file: an issuer keeps the source of its keys as long as their place is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from token_service.app.issuer_keys import IssuerKeys, trusted_issuers
from token_service.clock import SystemClock
from token_service.config.policy_file import PolicyDocument, PolicyFile
from token_service.core.access.key_sources import KeySource
from token_service.errors import ConfigurationError

WORKLOADS = '[workload_issuers.mesh]\ntrust_domain = "example.org"\naudience = "a"\nkeys = "file:/mesh"\n'
ACME = '[trusted_issuers.acme]\nissuer = "https://acme"\naudiences = ["a"]\nassertions = ["id_token"]\n'
DISCOVERY = f'{WORKLOADS}{ACME}keys = "discovery"\n'


def document(path: Path, text: str) -> PolicyDocument:
    path.write_text(text)
    return PolicyFile(path, {}).load()


def sources(keys: IssuerKeys, path: Path, text: str) -> dict[str, KeySource]:
    """Return the sources by the names of the issuers."""
    read = document(path, text)
    places: Any = keys.of(read)
    return {
        name: places[issuer.place]
        for name, issuer in {**read.workload_issuers, **read.trusted_issuers}.items()
    }


def test_unchanged_place_keeps_its_source(tmp_path: Path) -> None:
    keys, path = IssuerKeys(SystemClock()), tmp_path / "policy.toml"
    first = sources(keys, path, DISCOVERY)
    other = DISCOVERY.replace('["a"]', '["b"]').replace('audience = "a"', 'audience = "b"')
    again = sources(keys, path, other + 'scopes = ["read"]\n')
    assert (again["mesh"], again["acme"]) == (first["mesh"], first["acme"])
    moved = sources(keys, path, DISCOVERY.replace("https://acme", "https://other"))
    assert moved["mesh"] is first["mesh"]
    assert moved["acme"] is not first["acme"]
    private = sources(keys, path, DISCOVERY + "private = true\n")
    assert private["acme"] not in {first["acme"], moved["acme"]}


def test_one_cluster_in_both_tables_has_one_source(tmp_path: Path) -> None:
    text = (
        DISCOVERY + '[workload_issuers.acme]\nissuer = "https://acme"\naudience = "a"\nkeys = "discovery"\n'
    )
    read = document(tmp_path / "policy.toml", text)
    assert read.workload_issuers["acme"].place == read.trusted_issuers["acme"].place
    assert len(IssuerKeys(SystemClock()).of(read)) == 2


def test_unusable_url_and_own_issuer_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    read = document(path, f'{ACME}keys = "https://user@acme/keys"\n')
    with pytest.raises(ConfigurationError, match=r"trusted_issuers.acme: keys: it has a user name"):
        IssuerKeys(SystemClock()).of(read)
    read = document(path, DISCOVERY)
    keys = IssuerKeys(SystemClock()).of(read)
    with pytest.raises(ConfigurationError, match=r"trusted_issuers.acme: issuer: is this service itself"):
        trusted_issuers(read, keys, "https://acme")
    assert trusted_issuers(read, keys, "https://tokens").names == ("acme",)
