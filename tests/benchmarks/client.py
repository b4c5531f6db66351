"""The client library against other libraries, in one run: `scripts/bench client`.

The sides of a row take turns in many rounds, and a ratio is the median over all rounds, so other load of the machine
hits every side. Nothing here uses a network: a validator gets a snapshot and a proof as the stream would deliver them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey
from joserfc.jwt import JWTClaimsRegistry

from tests.benchmarks.duel import Effort
from tests.benchmarks.starting import import_client
from tests.benchmarks.table import Row
from tests.support.token_mint import AUDIENCE, ISSUER, Mint
from token_service.client.config import Freshness, ServiceIssuer, ValidatorConfig
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.tokens import base64url, strict_json
from token_service.tokens.revocation_set import TOKEN_BUCKET_SECONDS
from token_service.tokens.verified_cache import TokenCache
from token_service.v1 import token_service_pb2 as pb

FAST_JWT = "fast-jwt@6.3.6"
_REVOCATIONS = 100_000
_SIZES = (0, 10_000, 100_000, 1_000_000)
_SCOPES = frozenset({"read"})
_CACHED_CALLS = 20_000
_SLOW_CALLS = 300
_FIRST_SIGHTS = 400
_BUCKETS = 56
"""Token ids are spread over the number of buckets in an hour."""
_IDS_A_MESSAGE = 100_000
_EPOCH = "benchmark0000000"

Side = Callable[[], float]
"""Runs one round and returns the seconds for each call."""

_clock = time.thread_time
"""Processor time: no measured call waits, and other load of the machine must not count."""


# --- validators without a network ---


def snapshot(count: int, mint: Mint) -> list[bytes]:
    """Return the messages of a stream with `count` revoked token ids and the key."""
    now = int(time.time())
    cursor = f"{_EPOCH}:{count}"
    first = pb.StreamRevocationsResponse(reset=True)
    first.key_set.issuer, first.key_set.revision = ISSUER, 1
    first.key_set.keys.add(**{name: value for name, value in mint.jwk.items() if isinstance(value, str)})
    messages = [first]
    for number in range(_BUCKETS):
        share = count // _BUCKETS + (number < count % _BUCKETS)
        random = os.urandom(8 * share)
        packed = b"".join(sorted(random[at : at + 8] for at in range(0, len(random), 8)))
        for at in range(0, len(packed), 8 * _IDS_A_MESSAGE):
            message = pb.StreamRevocationsResponse()
            block = message.snapshot_blocks.add(
                target=pb.BLOCK_TARGET_TOKEN_ID,
                bucket=now // TOKEN_BUCKET_SECONDS + number,
                fingerprints=packed[at : at + 8 * _IDS_A_MESSAGE],
            )
            block.expire_time.seconds = now + 7200
            messages.append(message)
    messages[-1].cursor, messages[-1].caught_up = cursor, True
    return [message.SerializeToString() for message in messages]


def inform(validator: TokenValidator | SyncTokenValidator, messages: Sequence[bytes]) -> float:
    """Give the messages to a validator and prove it fresh; return the seconds to take the messages in."""
    parts: Any = validator._parts
    follower_state = parts.follower_state
    assert follower_state is not None
    began = time.perf_counter()
    for data in messages:
        follower_state.receive(pb.StreamRevocationsResponse.FromString(data))
    seconds = time.perf_counter() - began
    assert follower_state.cursor is not None
    follower_state.answer(follower_state.begin_probe(), str(follower_state.cursor))
    assert validator.is_fresh
    return seconds


def config() -> ValidatorConfig:
    """Return a configuration whose validator stays fresh for a whole run."""
    issuer = ServiceIssuer(
        issuer=ISSUER, target="127.0.0.1:1", freshness=Freshness(bound=3600, probe_timeout=1)
    )
    return ValidatorConfig(issuers=[issuer], audience=AUDIENCE)


# --- measuring ---


def rounds(sides: dict[str, Side], effort: Effort) -> dict[str, list[float]]:
    """Return the seconds for each call in each round. The sides take turns at going first.

    One round before is not counted.
    """
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    for side in sides.values():
        side()
    for number in range(effort.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(sides[name]())
    return found


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """Return the median of the ratios of the rounds."""
    return median(a / b for a, b in zip(numerator, denominator, strict=True))


def micros(times: list[float]) -> str:
    """Return the median as text for a cell."""
    return f"{median(times) * 1e6:.2f} us"


def timed(call: Callable[[], object], calls: int) -> float:
    """Return the seconds for each of many calls."""
    steps = range(calls)
    began = _clock()
    for _ in steps:
        call()
    return (_clock() - began) / calls


# --- the other sides ---


class FastJwt:
    """node's fast-jwt in its own process, which idles while other sides are measured.

    `missing` says why it can't run.
    """

    _PROGRAM = """
const { createVerifier } = require('fast-jwt')
const job = JSON.parse(require('fs').readFileSync(process.argv[2], 'utf8'))
const rules = { key: job.pem, algorithms: ['RS256'], allowedIss: job.issuer, allowedAud: job.audience, requiredClaims: ['exp', 'iat', 'sub'] }
const cached = createVerifier({ ...rules, cache: 10000 })
const cold = createVerifier({ ...rules, cache: false })
let next = 0
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [what, text] = line.split(' ')
  const calls = Number(text)
  const began = process.hrtime.bigint()
  const busy = process.cpuUsage()
  if (what === 'cached') for (let i = 0; i < calls; i++) cached(job.tokens[0])
  else for (let i = 0; i < calls; i++) cold(job.tokens[next++ % job.tokens.length])
  const seconds = Number(process.hrtime.bigint() - began) / 1e9
  const { user, system } = process.cpuUsage(busy)
  // Its helper threads are busy as well, so the wall-clock time may be the shorter one.
  console.log(Math.min(seconds, (user + system) / 1e6) / calls)
})
"""

    def __init__(self, mint: Mint, tokens: Sequence[str]) -> None:
        public = mint.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._job = {"pem": public.decode(), "issuer": ISSUER, "audience": AUDIENCE, "tokens": list(tokens)}
        self._process: subprocess.Popen[str] | None = None
        self.missing = ""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="token-service-fast-jwt-")
        directory = Path(self._directory.name)
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            self.missing = "node and npm are not on PATH"
            return self
        install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", FAST_JWT]
        try:
            done = subprocess.run(
                install, cwd=directory, capture_output=True, text=True, timeout=180, check=False
            )
        except subprocess.TimeoutExpired:
            self.missing = f"npm could not install {FAST_JWT} in time"
            return self
        if done.returncode:
            self.missing = f"npm could not install {FAST_JWT}"
            return self
        (directory / "job.json").write_text(json.dumps(self._job))
        (directory / "program.js").write_text(self._PROGRAM)
        self._process = subprocess.Popen(
            [node, "program.js", "job.json"],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                pipe.close()
        self._directory.cleanup()

    def run(self, what: str, calls: int) -> float:
        """Run `cached` or `cold` and return the seconds for each call."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {calls}\n")
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"node ended with {self._process.wait()}")
        return float(answer)


def _pyjwt(mint: Mint) -> Callable[[str], object]:
    key = mint.key.public_key()
    options: Any = {"require": ["exp", "iat", "sub"]}

    def decode(token: str) -> object:
        return jwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE, issuer=ISSUER, options=options)

    return decode


def _joserfc(mint: Mint) -> Callable[[str], object]:
    key = RSAKey.import_key(mint.jwk)
    registry = JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )

    def decode(token: str) -> object:
        decoded = joserfc_jwt.decode(token, key, algorithms=["RS256"])
        registry.validate(decoded.claims)
        return decoded

    return decode


# --- the rows ---


def cached(effort: Effort, mint: Mint, tokens: Sequence[str], fast_jwt: FastJwt) -> Iterator[Row]:
    """Measure a token seen before, with expiry, audience and scope checked and 100,000 revocations known."""
    messages = snapshot(_REVOCATIONS, mint)
    threads, tasks = SyncTokenValidator(config()), TokenValidator(config())
    for validator in (threads, tasks):
        inform(validator, messages)
    token = tokens[0]

    def in_threads() -> float:
        validate = threads.validate
        steps = range(_CACHED_CALLS)
        began = _clock()
        for _ in steps:
            validate(token, required_scopes=_SCOPES)
        return (_clock() - began) / _CACHED_CALLS

    async def _in_tasks() -> float:
        validate = tasks.validate
        steps = range(_CACHED_CALLS)
        began = _clock()
        for _ in steps:
            await validate(token, required_scopes=_SCOPES)
        return (_clock() - began) / _CACHED_CALLS

    pyjwt, joserfc = _pyjwt(mint), _joserfc(mint)
    sides: dict[str, Side] = {
        "sync": in_threads,
        "async": lambda: asyncio.run(_in_tasks()),
        "PyJWT decode": lambda: timed(lambda: pyjwt(token), _SLOW_CALLS),
        "joserfc decode": lambda: timed(lambda: joserfc(token), _SLOW_CALLS),
    }
    if not fast_jwt.missing:
        sides["fast-jwt cache hit"] = lambda: fast_jwt.run("cached", _CACHED_CALLS)
    found = rounds(sides, effort)
    goals = {"PyJWT decode": 100.0, "joserfc decode": None, "fast-jwt cache hit": 4.0}
    for kind in ("sync", "async"):
        assert (threads if kind == "sync" else tasks).counters.verified == 1
        for other, goal in goals.items():
            what = f"validate again, {kind}, {_REVOCATIONS:,} revoked: times as fast as {other}"
            if other not in found:
                yield Row(what, micros(found[kind]), f"not measured: {fast_jwt.missing}")
                continue
            yield Row(
                what,
                micros(found[kind]),
                micros(found[other]),
                ratio(found[other], found[kind]),
                at_least=goal,
            )


def first_sight(effort: Effort, mint: Mint, tokens: Sequence[str], fast_jwt: FastJwt) -> Iterator[Row]:
    """Measure tokens never seen, RS256, with 100,000 revocations known."""
    key = mint.key.public_key()
    assert isinstance(key, RSAPublicKey)
    padding, digest = PKCS1v15(), SHA256()
    raw = [
        (base64url.decode(signature.encode()), signing_input.encode())
        for signing_input, _, signature in (token.rpartition(".") for token in tokens)
    ]
    none, many = SyncTokenValidator(config()), SyncTokenValidator(config())
    inform(none, snapshot(0, mint))
    inform(many, snapshot(_REVOCATIONS, mint))

    def ours(validator: SyncTokenValidator) -> float:
        validator._local.cache = TokenCache(50_000)  # as after a change of keys
        validate = validator.validate
        began = _clock()
        for token in tokens:
            validate(token, required_scopes=_SCOPES)
        return (_clock() - began) / len(tokens)

    def verify() -> float:
        check = key.verify
        began = _clock()
        for signature, signing_input in raw:
            check(signature, signing_input, padding, digest)
        return (_clock() - began) / len(raw)

    def each(decode: Callable[[str], object]) -> float:
        began = _clock()
        for token in tokens:
            decode(token)
        return (_clock() - began) / len(tokens)

    pyjwt, joserfc = _pyjwt(mint), _joserfc(mint)
    sides: dict[str, Side] = {
        "ours": lambda: ours(many),
        "ours, none revoked": lambda: ours(none),
        "public_key.verify": verify,
        "PyJWT": lambda: each(pyjwt),
        "joserfc": lambda: each(joserfc),
    }
    if not fast_jwt.missing:
        sides["fast-jwt"] = lambda: fast_jwt.run("cold", len(tokens))
    found = rounds(sides, effort)
    for name, known in (("ours", f"{_REVOCATIONS:,} revoked"), ("ours, none revoked", "none revoked")):
        yield Row(
            f"first sight, RS256, {known}: time by that of public_key.verify",
            micros(found[name]),
            micros(found["public_key.verify"]),
            ratio(found[name], found["public_key.verify"]),
            at_most=1.30,
        )
    for other, goal in (("PyJWT", 2.5), ("joserfc", None), ("fast-jwt", 1.0)):
        what = f"first sight, RS256, {_REVOCATIONS:,} revoked: times as fast as {other}"
        if other not in found:
            yield Row(what, micros(found["ours"]), f"not measured: {fast_jwt.missing}")
            continue
        yield Row(
            what,
            micros(found["ours"]),
            micros(found[other]),
            ratio(found[other], found["ours"]),
            at_least=goal,
        )


def growth(effort: Effort, mint: Mint, tokens: Sequence[str]) -> Iterator[Row]:
    """Measure the same validation with growing numbers of known revocations."""
    validators = {size: SyncTokenValidator(config()) for size in _SIZES}
    loads: dict[int, list[float]] = {size: [] for size in _SIZES}
    for size, validator in validators.items():
        messages = snapshot(size, mint)
        for _ in range(3):
            fresh = SyncTokenValidator(config())
            loads[size].append(inform(fresh, messages))
        inform(validator, messages)
    token = tokens[0]

    def again(validator: SyncTokenValidator) -> float:
        return timed(lambda: validator.validate(token, required_scopes=_SCOPES), _CACHED_CALLS // 2)

    def first(validator: SyncTokenValidator) -> float:
        validator._local.cache = TokenCache(50_000)
        times = []
        for each in tokens:
            began = time.perf_counter()
            validator.validate(each, required_scopes=_SCOPES)
            times.append(time.perf_counter() - began)
        return median(times)

    for what, side in (("validate again", again), ("first sight, p50", first)):
        found = rounds(
            {str(size): partial(side, validators[size]) for size in _SIZES},
            effort,
        )
        for size in _SIZES[1:]:
            yield Row(
                f"{what}, {size:,} revoked: time by that at none",
                micros(found[str(size)]),
                micros(found["0"]),
                ratio(found[str(size)], found["0"]),
                at_most=1.2,
            )
    for size in _SIZES:
        middle = median(loads[size])
        yield Row(
            f"snapshot of {size:,} loaded",
            f"{middle * 1e3:.1f} ms",
            "limit 2 s" if size == _SIZES[-1] else "",
            middle / 2.0 if size == _SIZES[-1] else None,
            at_most=1.0 if size == _SIZES[-1] else None,
        )


def memory(effort: Effort) -> Iterator[Row]:
    """Measure the memory of a million revoked ids in their own process, and the time to look one up."""
    command = [sys.executable, "-m", "tests.benchmarks.client", "--weigh", str(effort.rounds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    said = json.loads(done.stdout)
    million = _SIZES[-1]
    for how, bytes_each in said["bytes"].items():
        yield Row(
            f"memory of a revoked id among {million:,}, {how}",
            f"{bytes_each:.1f} B",
            "limit 16 B",
            bytes_each / 16,
            at_most=1.0,
            note="growth of the resident memory of the process",
        )
    ours, reference = said["lookup"], said["set"]
    yield Row(
        f"look up an id among {million:,}: time by that of sets of texts in the same buckets",
        micros(ours),
        micros(reference),
        ratio(ours, reference),
        at_most=2.0,
        note=f"a whole RevocationSet.find {micros(said['find'])}",
    )


def weigh(count: int) -> None:
    """Measure the memory of a million ids, in their own process."""
    from token_service.tokens.claims import TokenKind, seal_claims
    from token_service.tokens.revocation import Revocation, RevocationTarget
    from token_service.tokens.revocation_set import RevocationSet

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    million = _SIZES[-1]
    mint = Mint("ES256")
    packed = snapshot(million, mint)
    # Load a small snapshot first, so that one-time allocations don't count.
    inform(SyncTokenValidator(config()), snapshot(1000, mint))
    before = resident()
    validator = SyncTokenValidator(config())
    parts: Any = validator._parts
    follower_state = parts.follower_state
    assert follower_state is not None
    for data in packed:
        follower_state.receive(pb.StreamRevocationsResponse.FromString(data))
    loaded = resident() - before
    assert len(follower_state.feed.revocations) >= million - 10
    del follower_state
    del validator
    now = int(time.time())
    before = resident()
    revocations = RevocationSet()
    for number in range(million):
        expiry = now + number % 3600
        revocations.apply(
            Revocation(
                number,
                RevocationTarget.TOKEN_ID,
                f"token-{number}",
                now,
                now + 7200.0,
                token_expire_time=expiry,
            )
        )
    applied = resident() - before
    texts: dict[int, set[str]] = {}
    for number in range(million):
        texts.setdefault((now + number % 3600) // TOKEN_BUCKET_SECONDS, set()).add(f"token-{number}")
    looked_for = [
        seal_claims(
            strict_json.encode(
                {
                    **mint.claims(now),
                    "jti": f"{'token' if number % 2 else 'other'}-{number}",
                    "exp": now + number % 3600,
                }
            ),
            TokenKind.ACCESS,
            "kid",
            True,
        )
        for number in range(0, million, 97)
    ]
    ids = [(int(claims.expire_time) // TOKEN_BUCKET_SECONDS, claims.token_id) for claims in looked_for]
    marks = [(int(claims.expire_time) // TOKEN_BUCKET_SECONDS, claims.token_mark) for claims in looked_for]
    buckets = revocations._tokens.by_number

    def lookup() -> float:
        began = _clock()
        for bucket, mark in marks:
            buckets[bucket].has(mark)
        return (_clock() - began) / len(marks)

    def in_set() -> float:
        began = _clock()
        for bucket, each in ids:
            each in texts[bucket]  # noqa: B015  # this is measured
        return (_clock() - began) / len(ids)

    def find() -> float:
        began = _clock()
        for claims in looked_for:
            revocations.find(claims)
        return (_clock() - began) / len(looked_for)

    assert all((revocations.find(c) is not None) == c.token_id.startswith("token") for c in looked_for)
    found = rounds({"lookup": lookup, "set": in_set, "find": find}, Effort(count, 0))
    print(json.dumps({"bytes": {"loaded": loaded / million, "one by one": applied / million}, **found}))


def main() -> int:
    """Measure and write the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=Path, help="the file for the rows")
    parser.add_argument("--weigh", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.weigh:
        weigh(arguments.weigh)
        return 0
    effort = Effort(rounds=7 if arguments.quick else 25, seconds=0)
    mint = Mint("RS256")
    now = time.time()
    # The tokens expire in the same hour as the revoked ids, so each is looked up among those.
    tokens = [mint.token(now, exp=int(now) + 1800, jti=f"never-{number}") for number in range(_FIRST_SIGHTS)]
    rows: list[Row] = []
    with ExitStack() as stack:
        fast_jwt = stack.enter_context(FastJwt(mint, tokens))
        for name, suite in (
            ("cached", lambda: cached(effort, mint, tokens, fast_jwt)),
            ("first sight", lambda: first_sight(effort, mint, tokens, fast_jwt)),
            ("growth", lambda: growth(effort, mint, tokens)),
            ("memory", lambda: memory(effort)),
            ("import", lambda: import_client(effort)),
        ):
            print(f"bench: client: {name} …", file=sys.stderr, flush=True)
            gc.collect()
            rows += suite()
    arguments.rows.write_text(json.dumps([asdict(row) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
