from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.token_mint import jwk_of, private_key, sign
from token_service.client import Algorithm, ConfigurationError, DpopKey
from token_service.errors import SigningUnavailableError
from token_service.tokens.dpop import verify_proof

URI = "https://api.example/orders"
ALGORITHMS = [Algorithm.ES256, Algorithm.EDDSA, Algorithm.PS256, Algorithm.RS256]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_proof_is_read_by_another_implementation(algorithm: Algorithm) -> None:
    key = DpopKey.generate(algorithm)
    proof = key.proof("GET", f"{URI}?page=1#top", access_token="token", nonce="n-1", now=1_800_000_000.7)
    header = jwt.get_unverified_header(proof)
    assert header == {"typ": "dpop+jwt", "alg": algorithm.value, "jwk": key.public_jwk}
    claims = jwt.decode(
        proof, jwt.PyJWK(header["jwk"], algorithm=algorithm.value), options={"verify_iat": False}
    )
    assert len(claims.pop("jti")) == 22
    assert claims == {
        "htm": "GET",
        "htu": URI,
        "iat": 1_800_000_000,
        # The SHA-256 of `token`, by openssl.
        "ath": "PEaenWxYddN6Q_NT1PiOYfz4EsZu7jRXRlpAsNpBU-A",
        "nonce": "n-1",
    }


def test_proof_without_token_and_nonce_names_neither() -> None:
    key = DpopKey.generate()
    claims = jwt.decode(key.proof("POST", URI), options={"verify_signature": False})
    assert claims.keys() == {"jti", "htm", "htu", "iat"}
    verified = verify_proof(key.proof("POST", URI), method="POST", uri=URI, access_token=None)
    assert verified.jkt == key.jkt
    assert not set(key.public_jwk) & {"d", "p", "q"}


@pytest.mark.parametrize("uri", ["ftp://api.example/", "api.example", "https://user:word@api.example/"])
def test_proof_for_no_http_uri_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="URI"):
        DpopKey.generate().proof("GET", uri)


def test_threads_make_proofs_that_all_differ() -> None:
    key = DpopKey.generate()

    def make(_: int) -> str:
        proof = key.proof("GET", URI)
        return verify_proof(proof, method="GET", uri=URI, access_token=None).proof_id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(make, range(200)))) == 200


def test_repr_does_not_show_the_key() -> None:
    key = DpopKey.generate()
    assert repr(key) == f"DpopKey(ES256, jkt={key.jkt!r})"


def test_unsupported_algorithm_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="HS256"):
        DpopKey.generate(Algorithm.HS256)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_file_is_created_once_and_read_again(tmp_path: Path, algorithm: Algorithm) -> None:
    path = tmp_path / "dpop.pem"
    first = DpopKey.of_file(path, algorithm)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["dpop.pem"]
    again = DpopKey.of_file(path, algorithm)
    assert (again.jkt, again.algorithm) == (first.jkt, algorithm)
    verify_proof(again.proof("GET", URI), method="GET", uri=URI, access_token=None)


def test_concurrent_creators_use_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: DpopKey.of_file(tmp_path / "dpop.pem"), range(16)))
    assert len({key.jkt for key in keys}) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["dpop.pem"]


def test_file_that_another_process_creates_first_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dpop.pem"
    others: list[DpopKey] = []

    def generate_late(algorithm: Algorithm) -> object:
        monkeypatch.undo()
        others.append(DpopKey.of_file(path))
        return private_key(algorithm.value, "late")

    monkeypatch.setattr("token_service.client._internal.dpop_key_file.generate", generate_late)
    assert DpopKey.of_file(path).jkt == others[0].jkt
    assert [each.name for each in tmp_path.iterdir()] == ["dpop.pem"]


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660, 0o620])
def test_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "dpop.pem"
    DpopKey.of_file(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        DpopKey.of_file(path)


def test_file_that_the_group_may_read_is_refused_unless_it_is_of_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dpop.pem"
    DpopKey.of_file(path)
    path.chmod(0o640)
    owner = 1000

    def status(descriptor: int) -> os.stat_result:
        values = list(os.stat(descriptor))
        values[stat.ST_UID] = owner
        return os.stat_result(values)

    monkeypatch.setattr("token_service.client._internal.dpop_key_file.os.fstat", status)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        DpopKey.of_file(path)
    owner = 0
    DpopKey.of_file(path)


def test_unusable_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "dpop.pem"
    wrong = generate_private_key(SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"no key", wrong):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigurationError, match=r"dpop\.pem"):
            DpopKey.of_file(path)
        assert path.read_bytes() == content
    with pytest.raises(ConfigurationError, match="No such file"):
        DpopKey.of_file(tmp_path / "missing" / "dpop.pem")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        DpopKey.of_file(tmp_path / "pipe")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_signer_keeps_the_private_key(algorithm: Algorithm) -> None:
    private = private_key(algorithm.value, "signer")
    key = DpopKey(lambda data: sign(private, data, algorithm.value), jwk_of(private, algorithm.value))
    assert key.algorithm is algorithm
    assert verify_proof(key.proof("GET", URI), method="GET", uri=URI, access_token=None).jkt == key.jkt
    assert key.may_block
    assert not DpopKey.generate().may_block


def test_signature_of_another_form_or_key_is_refused() -> None:
    private, other = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    for signer in (lambda data: private.sign(data, ECDSA(SHA256())), lambda data: sign(other, data)):
        key = DpopKey(signer, jwk_of(private))
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="no ES256 signature"):
                key.proof("GET", URI)


def test_failure_of_the_signer_is_a_service_error() -> None:
    def fail(data: bytes) -> bytes:
        raise OSError("no token in slot 0")

    key = DpopKey(fail, jwk_of(private_key("ES256")))
    with pytest.raises(SigningUnavailableError, match="no token in slot 0"):
        key.proof("GET", URI)


@pytest.mark.parametrize("jwk", [{}, {"kty": "oct", "k": "AAAA"}, {"kty": "EC", "crv": "P-256", "x": "AA"}])
def test_unusable_public_key_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="public key"):
        DpopKey(lambda _: b"", jwk)
