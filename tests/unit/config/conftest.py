from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def production(tmp_path: Path) -> dict[str, object]:
    for name in ("cert", "key", "ca", "kek"):
        (tmp_path / name).write_text("x")
    return {
        "PROFILE": "production",
        "GRPC_ADDRESS": "0.0.0.0:50051",
        "HTTP_ADDRESS": "0.0.0.0:8080",
        "HTTP_TLS": "true",
        "DATABASE_URL": "postgresql://service:secret@db/tokens",
        "ISSUER": "https://tokens.example",
        "TLS_CERT_FILE": tmp_path / "cert",
        "TLS_KEY_FILE": tmp_path / "key",
        "TLS_CLIENT_CA_FILE": tmp_path / "ca",
        "KEY_ENCRYPTION_KEY_FILE": tmp_path / "kek",
        "AUDIT_KEY_FILE": tmp_path / "audit",
    }
