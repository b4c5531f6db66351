"""Keys that a hardware security module generates, stores and uses, and that never leave it (PKCS #11 v2.40)."""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from token_service.core.keys.making import NewKey
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.signers.hsm.sessions import Pkcs11Sessions, TokenSession, UnfitError
from token_service.signers.private_key import DEFAULT_RSA_BITS
from token_service.tokens import base64url
from token_service.tokens.algorithms import (
    MAX_RSA_BITS,
    MIN_RSA_BITS,
    PSS_SALT_BYTES,
    PUBLIC_KEY_ALGORITHMS,
    RSA_ALGORITHMS,
    Algorithm,
    verifier_for,
)
from token_service.tokens.jwk import public_jwk
from token_service.tokens.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from pkcs11 import Mechanism, Session

PROVIDER: Final = "pkcs11"
"""The `provider` of these keys."""

_P256: Final = bytes.fromhex("06082a8648ce3d030107")  # the OID as EC_PARAMS
_ED25519: Final = (
    b"\x13\x0cedwards25519",  # the curve's name (PKCS #11 v3.0, section 2.3.10)
    bytes.fromhex("06032b6570"),  # its OID (RFC 8410), which some modules require instead
)
_UNFINISHED: Final = "token-service: not finished"
_DIGEST_BYTES: Final = 32
_P256_POINT_BYTES: Final = 65
_ED25519_POINT_BYTES: Final = 32


class Pkcs11Signer:
    """A signer with one key of the module. Implements `Signer`."""

    def __init__(self, sessions: Pkcs11Sessions, key_id: str, algorithm: Algorithm) -> None:
        """Create a signer. Raises `ConfigurationError` if an HSM can't contain such a key."""
        if algorithm is Algorithm.HS256:
            raise ConfigurationError("HS256 keys are not kept in an HSM")
        self.key_id = key_id
        self.algorithm: Algorithm = algorithm
        self._sessions = sessions
        self._object_id = _object_id(key_id)

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the JWS signature.

        Raises `SigningUnavailableError`, whose `retry_after` tells when the module may work again.
        """
        try:
            return await self._sessions.run(lambda opened: self._sign(opened, signing_input))
        except UnfitError as error:
            raise SigningUnavailableError(
                f"the HSM can't sign {self.algorithm} with this key: {error}"
            ) from None

    def _sign(self, opened: TokenSession, signing_input: bytes) -> bytes:
        key = opened.private_keys.get(self._object_id)
        if key is None:
            key = opened.private_keys[self._object_id] = self._find(opened.session)
        return _sign(key, self.algorithm, signing_input)

    def _find(self, session: Session) -> Any:
        import pkcs11
        from pkcs11 import Attribute, ObjectClass

        _require_alive(session)
        wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: self._object_id}
        found: list[Any] = list(session.get_objects(wanted))
        if not found:
            raise pkcs11.NoSuchKey(f"the HSM has no key {self.key_id}")
        if found[0].key_type is not _key_type(self.algorithm):
            raise pkcs11.KeyTypeInconsistent
        return found[0]

    def __repr__(self) -> str:
        return f"<Pkcs11Signer {self.algorithm} {self.key_id}>"


class Pkcs11Keys:
    """The keys in one token of a PKCS#11 module.

    It is an async context manager. Entering it loads the module and logs in. Enter it in the process that uses it, after
    the supervisor's fork. The label of a key's objects is its key id; their CKA_ID is the 32 bytes that the key id
    encodes in base64url.
    """

    def __init__(
        self,
        module_path: str,
        token_label: str,
        pin: Secret,
        *,
        rsa_bits: int = DEFAULT_RSA_BITS,
        threads: int = 8,
        timeout: float = 5.0,
        generate_timeout: float = 120.0,
        restart_interval: float = 5.0,
    ) -> None:
        """Create the keys, without I/O.

        `rsa_bits` is the default size of RSA keys, `threads` the number of concurrent calls and sessions. In seconds:
        `timeout` of a signature, `generate_timeout` of a new key, `restart_interval` between attempts to restart a
        failing module.
        """
        self._sessions = Pkcs11Sessions(
            module_path, token_label, pin, threads=threads, timeout=timeout, restart_interval=restart_interval
        )
        self._label = token_label
        self._rsa_bits = rsa_bits
        self._generate_timeout = generate_timeout

    async def __aenter__(self) -> Self:
        """Load the module and log in.

        Raises `ConfigurationError` for unusable settings, and `SigningUnavailableError` if the module does not work now.
        """
        await self._sessions.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sessions.close()

    def open_signer(self, key_id: str, algorithm: Algorithm) -> Pkcs11Signer:
        """Return a signer for a key of the module. Its first signature looks the key up.

        Raises `ConfigurationError` if an HSM can't contain such a key.
        """
        return Pkcs11Signer(self._sessions, key_id, algorithm)

    async def generate(self, algorithm: Algorithm, rsa_bits: int | None = None) -> NewKey:
        """Generate a key pair in the module, and test it with one signature.

        `private_key` of the result is None, because the private key never leaves the module.

        Implements `GenerateKey`. Raises `ConfigurationError` if the module does not support such keys or would let a
        private key be read. Raises `SigningUnavailableError`; the module may then keep an unused key labeled
        `token-service: not finished`.
        """
        if algorithm is Algorithm.HS256:
            allowed = ", ".join(each.value for each in PUBLIC_KEY_ALGORITHMS)
            raise ConfigurationError(f"HS256 keys are not kept in an HSM; allowed: {allowed}")
        bits = self._rsa_bits if rsa_bits is None else rsa_bits
        if algorithm in RSA_ALGORITHMS and bits < MIN_RSA_BITS:
            raise ConfigurationError(f"an RSA key must have at least {MIN_RSA_BITS} bits, not {bits}")
        try:
            return await self._sessions.run(
                lambda opened: _generate(opened.session, algorithm, bits),
                timeout=self._generate_timeout,
            )
        except UnfitError as error:
            wanted = f"{algorithm} with {bits} bits" if algorithm in RSA_ALGORITHMS else str(algorithm)
            raise ConfigurationError(
                f"the PKCS#11 token {self._label!r} can't generate keys for {wanted}: {error}"
            ) from None

    async def delete(self, key_id: str) -> None:
        """Delete a key, its private and its public part. Succeeds if the module has no such key.

        Raises `SigningUnavailableError`.
        """
        object_id = _object_id(key_id)
        try:
            await self._sessions.run(lambda opened: _delete(opened, object_id))
        except UnfitError as error:
            raise SigningUnavailableError(f"the HSM can't delete the key: {error}") from None


def _require_alive(session: Session) -> None:
    """Raise an error of python-pkcs11 if the token or the session no longer exists.

    Without this check, a search in a missing token finds nothing, and one in a lost session raises two errors.
    """
    from pkcs11 import FunctionNotSupported, RandomNoRNG

    session.token.slot.get_token()
    with suppress(FunctionNotSupported, RandomNoRNG):
        session.generate_random(64)


def _object_id(key_id: str) -> bytes:
    try:
        digest = base64url.decode(key_id.encode())
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise ConfigurationError(f"{key_id!r} is not the id of a key in an HSM")
    return digest


def _sign(key: Any, algorithm: Algorithm, data: bytes) -> bytes:
    from pkcs11 import MGF, Mechanism

    mechanism, parameters = Mechanism.EDDSA, None
    if algorithm is Algorithm.RS256:
        mechanism = Mechanism.SHA256_RSA_PKCS
    elif algorithm is Algorithm.PS256:
        mechanism = Mechanism.SHA256_RSA_PKCS_PSS
        parameters = (Mechanism.SHA256, MGF.SHA256, PSS_SALT_BYTES)
    elif algorithm is Algorithm.ES256:
        # Not every module has ECDSA_SHA256, so the digest is computed here. The result already has the form r || s.
        mechanism, data = Mechanism.ECDSA, hashlib.sha256(data).digest()
    signature: bytes = key.sign(data, mechanism=mechanism, mechanism_param=parameters)
    return signature


def _generate(read_only: Session, algorithm: Algorithm, rsa_bits: int) -> NewKey:
    from pkcs11 import Attribute, PKCS11Error

    _require_support(read_only, algorithm, rsa_bits)
    session = read_only.token.open(rw=True)  # logged in, like all sessions of this process
    try:
        public, private = _generate_pair(session, algorithm, rsa_bits)
        try:
            material = _public_key(public, algorithm)
            if private[Attribute.EXTRACTABLE] or not private[Attribute.SENSITIVE]:
                raise UnfitError("its private keys can be read")
            probe = secrets.token_bytes(_DIGEST_BYTES)
            if not verifier_for(material, algorithm)(_sign(private, algorithm, probe), probe):
                raise UnfitError("the signature of its key is wrong")
            key_id = str(public_jwk(material)["kid"])
            for each in (public, private):
                each[Attribute.ID] = _object_id(key_id)
                each[Attribute.LABEL] = key_id
        except BaseException:
            for each in (private, public):
                with suppress(PKCS11Error):
                    each.destroy()
            raise
        der = material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return NewKey(key_id, der, None, PROVIDER)
    finally:
        session.close()


def _require_support(session: Session, algorithm: Algorithm, rsa_bits: int) -> None:
    from pkcs11 import Mechanism

    needed: dict[Algorithm, tuple[Mechanism, ...]] = {
        Algorithm.RS256: (Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.SHA256_RSA_PKCS),
        Algorithm.PS256: (Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.SHA256_RSA_PKCS_PSS),
        Algorithm.ES256: (Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA),
        Algorithm.EDDSA: (Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA),
    }
    present = session.token.slot.get_mechanisms()
    missing = [mechanism.name for mechanism in needed[algorithm] if mechanism not in present]
    if missing:
        raise UnfitError(f"it lacks {' and '.join(missing)}")
    if algorithm in RSA_ALGORITHMS:
        sizes = session.token.slot.get_mechanism_info(Mechanism.RSA_PKCS_KEY_PAIR_GEN)
        least, most = sizes.min_key_length or 0, sizes.max_key_length or MAX_RSA_BITS
        if not least <= rsa_bits <= most:
            raise UnfitError(f"it generates keys of {least} to {most} bits")


def _generate_pair(session: Session, algorithm: Algorithm, rsa_bits: int) -> tuple[Any, Any]:
    from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, PKCS11Error

    options: dict[str, Any] = {
        "id": secrets.token_bytes(_DIGEST_BYTES),  # until the public key is known
        "label": _UNFINISHED,
        "store": True,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "private_template": {
            Attribute.PRIVATE: True,
            Attribute.SENSITIVE: True,
            Attribute.EXTRACTABLE: False,
        },
    }
    if algorithm in RSA_ALGORITHMS:
        return session.generate_keypair(KeyType.RSA, rsa_bits, **options)
    if algorithm is Algorithm.ES256:
        curve = session.create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: _P256}, local=True)
        return curve.generate_keypair(**options)
    by_name, by_oid = (
        session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: parameters}, local=True)
        for parameters in _ED25519
    )
    options["mechanism"] = Mechanism.EC_EDWARDS_KEY_PAIR_GEN
    try:
        return by_name.generate_keypair(**options)
    except PKCS11Error:
        return by_oid.generate_keypair(**options)


def _public_key(
    public: Any, algorithm: Algorithm
) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey:
    from pkcs11 import Attribute

    if algorithm in RSA_ALGORITHMS:
        modulus = int.from_bytes(public[Attribute.MODULUS])
        return RSAPublicNumbers(int.from_bytes(public[Attribute.PUBLIC_EXPONENT]), modulus).public_key()
    point = public[Attribute.EC_POINT]
    try:
        if algorithm is Algorithm.ES256:
            return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), _point(point, _P256_POINT_BYTES))
        return Ed25519PublicKey.from_public_bytes(_point(point, _ED25519_POINT_BYTES))
    except ValueError:
        raise UnfitError("its public keys have an unknown form") from None


def _point(value: bytes, size: int) -> bytes:
    """Return the point of EC_POINT: some modules give the bare point, others an OCTET STRING or BIT STRING in DER."""
    if len(value) == size:
        return value
    if value[:2] == bytes((0x04, size)):
        return value[2:]
    if value[:3] == bytes((0x03, size + 1, 0)):
        return value[3:]
    raise ValueError("no point")


def _delete(opened: TokenSession, object_id: bytes) -> None:
    from pkcs11 import Attribute, ObjectClass

    opened.private_keys.pop(object_id, None)
    _require_alive(opened.session)
    session = opened.session.token.open(rw=True)
    try:
        for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
            for found in list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: object_id})):
                found.destroy()
    finally:
        session.close()


def _key_type(algorithm: Algorithm) -> object:
    from pkcs11 import KeyType

    return {
        Algorithm.RS256: KeyType.RSA,
        Algorithm.PS256: KeyType.RSA,
        Algorithm.ES256: KeyType.EC,
        Algorithm.EDDSA: KeyType.EC_EDWARDS,
    }[algorithm]
