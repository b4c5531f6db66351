// The validator's replica of the revocations, and the proofs of its freshness. No I/O.
//
// Invariants:
// - `revocations` contains every entry up to `cursor`. A snapshot is built separately and replaces the set in one
//   assignment. It never lacks an entry of the replaced set.
// - The replica is fresh only for `bound` seconds from the *start* of a probe whose answer, the head of the log, has
//   been applied. An answer that waited in a buffer while the process was stopped gives no longer freshness.
// - The wall clock may jump. Entries expire by a clock that does not jump. If the two clocks disagree, freshness ends
//   until the next snapshot.
// - The key set never becomes empty, and never returns to an older revision of the same log.
import { StreamProtocolError } from './errors.js'
import { parseCursor, readBlock, readEntry, readKeys } from './messages.js'
import { RevocationSet } from './revocation_set.js'

/** Seconds by which the two clocks may drift apart. Entries are kept this much longer than necessary. */
const MAX_CLOCK_STEP = 60
const MAX_PENDING = 8

export class Replica {
  revocations = new RevocationSet()
  /** The place in the log up to which `revocations` is complete: `{ log, sequence, text }`. */
  cursor = null
  keyRevision = -1
  /** The number of snapshots that replaced the set. */
  resets = 0

  #issuer
  #bound
  #clock
  #takeKeys
  #fresh = { until: -Infinity, from: Infinity, to: -Infinity }
  #provenAt = -Infinity
  #offset = null // wall clock minus elapsed time, at the start of the set
  #building = null
  #pending = []
  #behindSince = null
  #startOver = false
  #rewound = false

  /** `takeKeys(jwks)` uses these keys. It returns false, and changes nothing, if none of them is usable. */
  constructor({ issuer, bound, clock, takeKeys }) {
    this.#issuer = issuer
    this.#bound = bound
    this.#clock = clock
    this.#takeKeys = takeKeys
  }

  /** Tell whether `revocations` is proven at this moment to be at most `bound` seconds old. */
  get isFresh() {
    const now = this.#clock.now()
    const { until, from, to } = this.#fresh
    return this.#clock.elapsed() < until && from <= now && now < to
  }

  // --- the stream ---

  /** Begin a stream; return the cursor for its request, empty to request a snapshot. */
  connect() {
    this.#building = null
    this.#behindSince = null
    return this.cursor !== null && !this.#startOver ? this.cursor.text : ''
  }

  /** Use a message. After a StreamProtocolError the caller must end the stream and call `distrust`. */
  receive(message) {
    if (message.reset) {
      this.#building = {
        revocations: new RevocationSet(),
        cursor: null,
        keySet: null,
        offset: this.#clock.now() - this.#clock.elapsed(),
      }
    } else if (this.#building === null && (this.cursor === null || this.#startOver)) {
      throw new StreamProtocolError('the stream did not begin with a snapshot')
    }
    const building = this.#building
    if (message.snapshot_blocks.length > 0 && building === null) {
      throw new StreamProtocolError('the stream sent a part of a snapshot without its beginning')
    }
    const entries = message.revocations.map(readEntry)
    const cursor = parseCursor(message.cursor)
    const known = (building ?? this).cursor
    if (known !== null) requireContinuation(known, entries, cursor)
    for (const block of message.snapshot_blocks) building.revocations.load(readBlock(block))
    for (const entry of entries) (building ?? this).revocations.apply(entry)
    if (cursor !== null) (building ?? this).cursor = cursor
    if (message.key_set !== null) {
      // The keys of a snapshot may belong to another log, whose revisions started again.
      if (building !== null && this.keyRevision >= 0) building.keySet = message.key_set
      else this.takeKeySet(message.key_set)
    }
    if (building !== null && building.cursor !== null) this.#replaceBy(building)
    if (entries.length > 0 || message.snapshot_blocks.length > 0) this.#behindSince = null
    this.#settle()
  }

  /** Begin the next stream with a snapshot, because the last message did not continue the log. */
  distrust() {
    this.#building = null
    this.#startOver = true
  }

  // --- freshness ---

  /** Begin a probe. Call this before the probe is sent. */
  beginProbe() {
    const probe = { elapsed: this.#clock.elapsed(), now: this.#clock.now(), cursor: this.cursor }
    if (this.#offset !== null && Math.abs(probe.now - probe.elapsed - this.#offset) > MAX_CLOCK_STEP) {
      // The wall clock was set, or the machine slept. By the old time, entries that are still needed may have expired.
      this.#startOver = true
    }
    return probe
  }

  /** Use the answer to a probe: the head of the log. */
  answer(probe, headCursor) {
    const head = parseCursor(headCursor)
    if (head === null) throw new StreamProtocolError('the answer to a probe has no head')
    if (probe.cursor !== null && probe.cursor.log === head.log && probe.cursor.sequence > head.sequence) {
      // The log returned to an earlier state. It will use its sequences again for other entries.
      this.#rewound = this.#startOver = true
      this.#endFreshness()
      return
    }
    this.#pending.push({ probe, head })
    if (this.#pending.length > MAX_PENDING) this.#pending.shift()
    this.#settle()
  }

  /** Tell whether to end the current stream: the replica needs a snapshot, or the stream stays behind a known head. */
  needsNewStream(stallTimeout) {
    const building = this.#building
    if (this.#startOver && (building === null || (this.#rewound && building.cursor !== null))) return true
    return this.#behindSince !== null && this.#clock.elapsed() - this.#behindSince > stallTimeout
  }

  /** Forget expired entries, by the clock that does not jump. Call this every few seconds. */
  sweep() {
    if (this.#offset === null) return
    this.revocations.dropExpired(this.#clock.elapsed() + this.#offset - 2 * MAX_CLOCK_STEP)
  }

  // --- keys ---

  /** Use a key set if it is newer. Returns whether the current keys are now at least as new. */
  takeKeySet(keySet) {
    if (keySet.issuer !== this.#issuer || keySet.revision < this.keyRevision) return false
    if (keySet.revision === this.keyRevision) return true
    if (!this.#takeKeys(readKeys(keySet))) return false
    this.keyRevision = keySet.revision
    return true
  }

  // --- inner steps ---

  #replaceBy(building) {
    const sameLog = this.cursor !== null && this.cursor.log === building.cursor.log
    if (sameLog && building.cursor.sequence < this.cursor.sequence && !this.#rewound) {
      return // the node is behind: build the snapshot until it lacks no entry of the replica
    }
    if (!sameLog || this.#startOver) {
      this.#pending = []
      this.#endFreshness()
    }
    if (building.keySet !== null) {
      if (this.cursor !== null && (!sameLog || this.#rewound)) this.keyRevision = -1 // the revisions started again
      this.takeKeySet(building.keySet)
    }
    this.revocations = building.revocations
    this.cursor = building.cursor
    this.#offset = building.offset
    this.#building = null
    this.#startOver = this.#rewound = false
    this.#behindSince = null
    this.resets += 1
  }

  #endFreshness() {
    this.#fresh = { until: -Infinity, from: Infinity, to: -Infinity }
  }

  /** Prove freshness by each answered probe whose head has been applied. */
  #settle() {
    const behind = []
    for (const pending of this.#pending) {
      const { probe, head } = pending
      if (this.cursor === null || head.log !== this.cursor.log || head.sequence > this.cursor.sequence) behind.push(pending)
      else this.#prove(probe)
    }
    this.#pending = behind
    if (behind.length === 0) this.#behindSince = null
    else this.#behindSince ??= this.#clock.elapsed()
  }

  #prove(probe) {
    if (this.#startOver || this.#offset === null || probe.elapsed < this.#provenAt) return
    if (Math.abs(probe.now - probe.elapsed - this.#offset) > MAX_CLOCK_STEP) return
    this.#provenAt = probe.elapsed
    this.#fresh = {
      until: probe.elapsed + this.#bound,
      from: probe.now - MAX_CLOCK_STEP,
      to: probe.now + this.#bound,
    }
  }
}

function requireContinuation(known, entries, cursor) {
  let expected = known.sequence + 1
  for (const { sequence } of entries) {
    if (sequence > expected) throw new StreamProtocolError(`entries ${expected} to ${sequence - 1} are missing`)
    if (sequence === expected) expected += 1
  }
  if (cursor === null) {
    if (entries.length > 0) throw new StreamProtocolError('the stream sent entries without a cursor')
  } else if (cursor.log !== known.log || cursor.sequence !== expected - 1) {
    throw new StreamProtocolError('the cursor does not fit the entries')
  }
}
