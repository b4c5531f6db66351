from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc import jws
from joserfc.jwk import import_key
from pkcs11 import Attribute, ObjectClass

from tests.integration.hsm.public_keys import load_public_key
from tests.support.softhsm import SoftHsmToken
from token_service.core.keys.making import NewKey
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.signers.hsm.module import Pkcs11Module
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.signers.private_key import generate_private_key, public_key_bytes
from token_service.tokens import base64url, strict_json
from token_service.tokens.algorithms import RSA_ALGORITHMS, Algorithm, verifier_for
from token_service.tokens.jwk import public_jwk
from token_service.tokens.secret import Secret

IN_HSM = [Algorithm.RS256, Algorithm.PS256, Algorithm.ES256, Algorithm.EDDSA]


def objects(token: SoftHsmToken, new: NewKey) -> list[pkcs11.Object]:
    """Return the objects of a key in the module, read in another session."""
    module = Pkcs11Module.acquire(token.module)
    try:
        session = module.token(token.label).open(rw=True)  # this process is logged in
        return list(session.get_objects({Attribute.LABEL: new.key_id}))
    finally:
        module.release(timeout=5)


@pytest.mark.parametrize("algorithm", IN_HSM)
async def test_other_software_verifies_signatures_of_a_key_in_the_module(
    keys: Pkcs11Keys, algorithm: Algorithm
) -> None:
    new = await keys.generate(algorithm)
    assert (new.private_key, new.provider) == (None, "pkcs11")
    material = load_public_key(new.public_key)
    jwk = public_jwk(material, algorithm)
    assert jwk["kid"] == new.key_id
    assert jwk["alg"] == algorithm.value
    signer = keys.open_signer(new.key_id, algorithm)
    assert (signer.key_id, signer.algorithm) == (new.key_id, algorithm)
    header = base64url.encode(strict_json.encode({"alg": algorithm.value, "kid": new.key_id}))
    signing_input = f"{header}.{base64url.encode(b'{}')}".encode()
    signature = await signer.sign(signing_input)
    verify = verifier_for(material, algorithm)
    assert verify(signature, signing_input)
    assert not verify(signature, signing_input + b"x")
    if algorithm is not Algorithm.EDDSA:  # joserfc warns about the name, which RFC 9864 splits
        token = f"{signing_input.decode()}.{base64url.encode(signature)}"
        assert jws.deserialize_compact(token, import_key(jwk), [algorithm.value]).payload == b"{}"


@pytest.mark.parametrize("bits", [2048, 3072, pytest.param(4096, marks=pytest.mark.slow)])
async def test_rsa_keys_have_the_length_asked_for(keys: Pkcs11Keys, bits: int) -> None:
    new = await keys.generate(Algorithm.RS256, rsa_bits=bits)
    material = load_public_key(new.public_key)
    assert isinstance(material, RSAPublicKey)
    assert material.key_size == bits
    assert len(await keys.open_signer(new.key_id, Algorithm.RS256).sign(b"x")) == bits // 8


async def test_es256_signatures_are_padded_to_full_length(keys: Pkcs11Keys) -> None:
    new = await keys.generate(Algorithm.ES256)
    verify = verifier_for(load_public_key(new.public_key))
    signer = keys.open_signer(new.key_id, Algorithm.ES256)
    for number in range(600):  # one of 128 has a leading zero byte in r or s
        signature = await signer.sign(b"%d" % number)
        assert verify(signature, b"%d" % number)


@pytest.mark.parametrize("algorithm", IN_HSM)
async def test_the_private_key_can_not_be_extracted(
    token: SoftHsmToken, keys: Pkcs11Keys, algorithm: Algorithm
) -> None:
    new = await keys.generate(algorithm)
    one, other = objects(token, new)
    private, public = (one, other) if one.object_class is ObjectClass.PRIVATE_KEY else (other, one)
    assert (private.object_class, public.object_class) == (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
    assert private[Attribute.ID] == public[Attribute.ID] == base64url.decode(new.key_id.encode())
    assert not private[Attribute.EXTRACTABLE]
    for attribute in ("SENSITIVE", "PRIVATE", "TOKEN", "LOCAL", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE"):
        assert private[Attribute[attribute]], attribute
    for use in ("DECRYPT", "UNWRAP", "DERIVE"):
        assert not private[Attribute[use]], use
    secret = Attribute.PRIVATE_EXPONENT if algorithm in RSA_ALGORITHMS else Attribute.VALUE
    with pytest.raises(pkcs11.AttributeSensitive):
        private[secret]
    with pytest.raises(pkcs11.PKCS11Error):
        private[Attribute.EXTRACTABLE] = True
    wrapping: Any = private.session.generate_key(pkcs11.KeyType.AES, 256)
    with pytest.raises(pkcs11.KeyUnextractable):
        wrapping.wrap_key(private, mechanism=pkcs11.Mechanism.AES_KEY_WRAP_PAD)
    private.session.close()


async def test_32_concurrent_callers_get_their_own_signatures_off_the_loop(
    keys: Pkcs11Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await keys.generate(algorithm) for algorithm in IN_HSM]
    signers = [keys.open_signer(new.key_id, algorithm) for new, algorithm in zip(made, IN_HSM, strict=True)]
    verifiers = [
        verifier_for(load_public_key(new.public_key), algorithm)
        for new, algorithm in zip(made, IN_HSM, strict=True)
    ]
    loop_thread = threading.current_thread()
    seen: set[threading.Thread] = set()
    for signer in signers:
        original = signer._sign

        def record(opened, data, original=original):
            seen.add(threading.current_thread())
            return original(opened, data)

        monkeypatch.setattr(signer, "_sign", record)

    async def caller(number: int) -> None:
        for turn in range(12):
            text = b"%d.%d" % (number, turn)
            which = (number + turn) % len(signers)
            assert verifiers[which](await signers[which].sign(text), text)

    await asyncio.gather(*(caller(number) for number in range(32)))
    assert loop_thread not in seen
    assert 1 < len(seen) <= 4


async def test_no_thread_can_use_a_deleted_key(token: SoftHsmToken, keys: Pkcs11Keys) -> None:
    new = await keys.generate(Algorithm.ES256)
    other = await keys.generate(Algorithm.ES256)
    signer = keys.open_signer(new.key_id, Algorithm.ES256)
    await asyncio.gather(*(signer.sign(b"x") for _ in range(16)))
    await keys.delete(new.key_id)
    await keys.delete(new.key_id)  # the second call does nothing
    for _ in range(8):
        with pytest.raises(SigningUnavailableError, match=f"no key {new.key_id}"):
            await signer.sign(b"x")
    assert objects(token, new) == []
    await keys.open_signer(other.key_id, Algorithm.ES256).sign(b"x")


async def test_a_key_signs_only_with_its_own_algorithm(keys: Pkcs11Keys) -> None:
    new = await keys.generate(Algorithm.ES256)
    for algorithm in (Algorithm.RS256, Algorithm.EDDSA):
        with pytest.raises(SigningUnavailableError, match="KeyTypeInconsistent"):
            await keys.open_signer(new.key_id, algorithm).sign(b"x")
    await keys.open_signer(new.key_id, Algorithm.ES256).sign(b"x")
    with pytest.raises(ConfigurationError, match="HS256"):
        keys.open_signer(new.key_id, Algorithm.HS256)
    with pytest.raises(ConfigurationError, match="HS256"):
        await keys.generate(Algorithm.HS256)
    with pytest.raises(ConfigurationError, match="2048"):
        await keys.generate(Algorithm.RS256, rsa_bits=1024)


async def test_an_unsupported_key_is_refused_and_leaves_no_objects(
    token: SoftHsmToken, keys: Pkcs11Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(token)
    with pytest.raises(
        ConfigurationError,
        match=r"can't generate keys for RS256 with 99999 bits: it generates keys of \d+ to \d+ bits",
    ):
        await keys.generate(Algorithm.RS256, rsa_bits=99999)
    monkeypatch.setattr("token_service.signers.hsm.pkcs11._ED25519", (b"\x13\x05nonse", b"\x06\x01\x00"))
    with pytest.raises((ConfigurationError, SigningUnavailableError)):
        await keys.generate(Algorithm.EDDSA)
    monkeypatch.setattr("token_service.signers.hsm.pkcs11.verifier_for", lambda *_: lambda *_: False)
    with pytest.raises(ConfigurationError, match="the signature of its key is wrong"):
        await keys.generate(Algorithm.ES256)
    assert stored(token) == before


def stored(token: SoftHsmToken) -> set[Path]:
    return {path for path in token.tokens.rglob("*.object") if path.stat().st_size}


async def test_keys_outlive_the_objects_that_made_them(token: SoftHsmToken) -> None:
    pin = Secret(token.pin.encode())
    async with Pkcs11Keys(token.module, token.label, pin, threads=2) as first:
        new = await first.generate(Algorithm.ES256)
    async with (
        Pkcs11Keys(token.module, token.label, pin, threads=2) as second,
        Pkcs11Keys(token.module, token.label, pin, threads=2) as third,  # the same module twice
    ):
        for keys in (second, third):
            signature = await keys.open_signer(new.key_id, Algorithm.ES256).sign(b"x")
            assert verifier_for(load_public_key(new.public_key))(signature, b"x")
        await second._sessions.close()
        await third.open_signer(new.key_id, Algorithm.ES256).sign(b"x")
    with pytest.raises(SigningUnavailableError, match="not open"):
        await third.open_signer(new.key_id, Algorithm.ES256).sign(b"x")


@pytest.mark.parametrize("pin", [b"wrong-pin-4711", b""])
async def test_a_wrong_pin_is_tried_once_and_hidden(
    token: SoftHsmToken, monkeypatch: pytest.MonkeyPatch, pin: bytes
) -> None:
    tries = []
    log_in = Pkcs11Module.log_in

    def counted(*args: Any) -> Any:
        tries.append(1)
        return log_in(*args)

    monkeypatch.setattr(Pkcs11Module, "log_in", counted)
    with pytest.raises(ConfigurationError, match="refuses the PIN: PinIncorrect") as caught:
        async with Pkcs11Keys(token.module, token.label, Secret(pin)):
            pass
    assert tries == [1]
    assert not pin or pin.decode() not in repr(caught.value) + str(caught.value)


async def test_a_pin_that_is_not_utf8_is_refused_and_hidden(token: SoftHsmToken) -> None:
    pin = Secret(b"secret\xff")
    with pytest.raises(ConfigurationError, match="it is not UTF-8") as caught:
        async with Pkcs11Keys(token.module, token.label, pin):
            pass
    shown = "".join(traceback.format_exception(caught.value))
    assert "secret\\xff" not in shown


async def test_wrong_settings_are_named(token: SoftHsmToken, tmp_path: Path) -> None:
    pin = Secret(token.pin.encode())
    with pytest.raises(
        ConfigurationError,
        match="no token is labeled 'other'; labels of the module's tokens: 'token-service'",
    ):
        async with Pkcs11Keys(token.module, "other", pin):
            pass
    with pytest.raises(ConfigurationError, match="can't be loaded as a PKCS#11 module"):
        async with Pkcs11Keys(str(tmp_path / "missing.so"), token.label, pin):
            pass
    not_a_module = tmp_path / "text.so"
    not_a_module.write_text("no library")
    with pytest.raises(ConfigurationError, match="can't be loaded as a PKCS#11 module"):
        async with Pkcs11Keys(str(not_a_module), token.label, pin):
            pass


async def test_missing_python_pkcs11_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'grpc-token-service\[server,hsm\]'"):
        async with Pkcs11Keys(str(tmp_path / "module.so"), "label", Secret(b"1234")):
            pass


def test_the_library_is_imported_only_when_used() -> None:
    program = "import sys, token_service.signers.hsm.pkcs11; sys.exit('pkcs11' in sys.modules or 'asn1crypto' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


async def test_unknown_and_malformed_key_ids_are_refused(keys: Pkcs11Keys) -> None:
    for key_id in ("", "kid", "é" * 43, base64url.encode(b"x" * 31)):
        with pytest.raises(ConfigurationError, match="not the id of a key in an HSM"):
            keys.open_signer(key_id, Algorithm.ES256)
    foreign = generate_private_key(Algorithm.ES256)
    kid = public_jwk(load_public_key(public_key_bytes(foreign)))["kid"]
    with pytest.raises(SigningUnavailableError, match=f"the HSM has no key {kid}"):
        await keys.open_signer(kid, Algorithm.ES256).sign(b"x")
