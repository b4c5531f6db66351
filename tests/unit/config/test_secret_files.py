from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.config.loaded import load, refusal

SECRETS = [
    ("DATABASE_URL", "postgresql://me:hunter2@db/t"),
    ("REDIS_URL", "redis://:hunter2@redis:6379/0"),
    ("PKCS11_PIN", "hunter2 "),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    return path


@pytest.mark.parametrize(("name", "content"), SECRETS)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_content_of_a_file_is_used_without_its_final_newline(
    path: Path, name: str, content: str, end: str
) -> None:
    path.write_bytes((content + end).encode())
    settings = load(**{f"{name}_FILE": path})
    value = getattr(settings, name.lower())
    if name == "PKCS11_PIN":
        assert value.reveal() == content.encode()
    else:
        assert value == getattr(load(**{name: content}), name.lower())
    assert settings.sources[name.lower()] == f"TOKEN_SERVICE_{name}_FILE"
    assert settings.warnings == ()
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(("name", "content"), SECRETS)
def test_a_value_and_a_file_are_refused(path: Path, name: str, content: str) -> None:
    path.write_text(content)
    message = refusal(**{name: content, f"{name}_FILE": path})
    assert message == (
        f"TOKEN_SERVICE_{name} and TOKEN_SERVICE_{name}_FILE are both set; allowed: one of the two"
    )


@pytest.mark.parametrize(("content", "cause"), [(b"", "empty"), (b"\n", "empty"), (b"\xff", "not UTF-8")])
def test_unusable_content_is_named_and_not_shown(path: Path, content: bytes, cause: str) -> None:
    path.write_bytes(content)
    message = refusal(PKCS11_PIN_FILE=path)
    assert message.startswith(
        f"TOKEN_SERVICE_PKCS11_PIN_FILE: {path} can't be used ({cause}); allowed: a file"
    )


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    message = refusal(REDIS_URL_FILE=tmp_path / "none")
    assert message.count("REDIS_URL_FILE") == 1
    assert "No such file or directory" in message


def test_a_malformed_url_in_a_file_names_the_file_and_hides_the_password(path: Path) -> None:
    path.write_text("redis://:hunter2@redis:port")
    message = refusal(REDIS_URL_FILE=path)
    assert "TOKEN_SERVICE_REDIS_URL (TOKEN_SERVICE_REDIS_URL_FILE)" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("mode", "advice"), [(0o600, None), (0o400, None), (0o444, "read"), (0o620, "written")]
)
def test_a_file_open_to_others_gives_advice(path: Path, mode: int, advice: str | None) -> None:
    path.write_text("1234")
    os.chmod(path, mode)  # noqa: PTH101
    expected = (
        ()
        if advice is None
        else (
            f"TOKEN_SERVICE_PKCS11_PIN_FILE: {path} can be {advice} by users other than its owner; run `chmod 0400 {path}`",
        )
    )
    assert load(PKCS11_PIN_FILE=path).warnings == expected
