from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import softhsm as support
from tests.support.softhsm import MODULE_VARIABLE, SoftHsm


def test_the_error_says_what_to_install_if_installing_is_impossible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(MODULE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(support, "_PLACES", ())
    with pytest.raises(
        RuntimeError, match=r"could not be installed .*apt-get is missing.* Install it, for example: apt-get"
    ):
        SoftHsm.find()


def test_a_named_module_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(MODULE_VARIABLE, str(tmp_path / "missing.so"))
    with pytest.raises(RuntimeError, match=r"TOKEN_SERVICE_TEST_PKCS11_MODULE=.*missing\.so: no such file"):
        SoftHsm.find()


def test_a_named_module_is_used(softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODULE_VARIABLE, str(softhsm.module))
    monkeypatch.setenv("PATH", str(softhsm.util.parent))
    assert SoftHsm.find() == softhsm
