// The live revocations. "What an entry revokes" and "Snapshot blocks" in protos/README.md define the rules.
import { createHash } from 'node:crypto'
import { StreamProtocolError } from './errors.js'

const TOKEN_BUCKET_SECONDS = 64
const SESSION_BUCKET_SECONDS = 1024
const UNKNOWN_EXPIRY = 0
const FINGERPRINT_BYTES = 8

/** Return the fingerprint of an id: the first 8 bytes of its SHA-256. */
export const fingerprint = (id) => createHash('sha256').update(id, 'utf8').digest().readBigUInt64BE(0)

/** Fingerprints: packed blocks of a snapshot, which take 8 bytes each, and a few that came later. */
class Bucket {
  #blocks = []
  #later = new Set()
  expireTime = 0

  add(mark, expireTime) {
    this.#later.add(mark)
    this.expireTime = Math.max(this.expireTime, expireTime)
  }

  load(packed, expireTime) {
    if (packed.length % FINGERPRINT_BYTES !== 0) throw new StreamProtocolError('a fingerprint is cut')
    for (let at = FINGERPRINT_BYTES; at < packed.length; at += FINGERPRINT_BYTES) {
      if (packed.compare(packed, at, at + FINGERPRINT_BYTES, at - FINGERPRINT_BYTES, at) > 0) {
        throw new StreamProtocolError('the fingerprints are not in ascending order')
      }
    }
    this.#blocks.push(packed)
    this.expireTime = Math.max(this.expireTime, expireTime)
  }

  has(mark) {
    return this.#later.has(mark) || this.#blocks.some((packed) => contains(packed, mark))
  }
}

function contains(packed, mark) {
  let low = 0
  let high = packed.length / FINGERPRINT_BYTES
  while (low < high) {
    const middle = (low + high) >> 1
    const found = packed.readBigUInt64BE(middle * FINGERPRINT_BYTES)
    if (found === mark) return true
    if (found < mark) low = middle + 1
    else high = middle
  }
  return false
}

class Buckets extends Map {
  at(number) {
    if (!this.has(number)) this.set(number, new Bucket())
    return this.get(number)
  }
}

export class RevocationSet {
  #tokens = new Buckets()
  #unknown = new Buckets() // token ids without a known expiry, by the expiry of the entry: every look-up searches them
  #sessions = new Buckets()
  // Revocation floors: sequence and time below which tokens are revoked.
  #subjects = new Map()
  #clients = new Map()
  #everything = new Map()
  #keys = new Map()

  /** Add one entry: `{ sequence, target, value, revokeTime, expireTime, tokenExpireTime }`, times in seconds. */
  apply(entry) {
    const { target, value, expireTime, tokenExpireTime } = entry
    if (target === 'token_id') {
      const known = tokenExpireTime !== null
      const bucket = known
        ? this.#tokens.at(Math.floor(tokenExpireTime / TOKEN_BUCKET_SECONDS))
        : this.#unknown.at(Math.floor(expireTime / SESSION_BUCKET_SECONDS))
      bucket.add(fingerprint(value), expireTime)
    } else if (target === 'session_id') {
      this.#sessions.at(Math.floor(expireTime / SESSION_BUCKET_SECONDS)).add(fingerprint(value), expireTime)
    } else if (target === 'subject') {
      raise(this.#subjects, value, entry)
    } else if (target === 'client_id') {
      raise(this.#clients, value, entry)
    } else if (target === 'key_id') {
      raise(this.#keys, value, entry)
    } else {
      raise(this.#everything, '', entry)
    }
  }

  /** Add a block of a snapshot. Throws StreamProtocolError if it is not well formed. */
  load({ target, bucket, fingerprints, expireTime }) {
    let at
    if (target === 'session_id') at = this.#sessions.at(bucket)
    else if (bucket === UNKNOWN_EXPIRY) at = this.#unknown.at(Math.floor(expireTime / SESSION_BUCKET_SECONDS))
    else at = this.#tokens.at(bucket)
    at.load(fingerprints, expireTime)
  }

  /** Tell whether an entry revokes the token. */
  revokes(claims) {
    const mark = fingerprint(claims.tokenId)
    if (this.#tokens.get(Math.floor(claims.expireTime / TOKEN_BUCKET_SECONDS))?.has(mark)) return true
    if (has(this.#unknown, mark)) return true
    if (claims.sessionId !== '' && has(this.#sessions, fingerprint(claims.sessionId))) return true
    if (this.#keys.has(claims.keyId)) return true
    return (
      hits(this.#subjects.get(claims.subject), claims) ||
      hits(this.#clients.get(claims.clientId), claims) ||
      hits(this.#everything.get(''), claims)
    )
  }

  /** Forget the entries whose tokens have all expired at `now`. */
  dropExpired(now) {
    for (const map of [this.#tokens, this.#unknown, this.#sessions, this.#subjects, this.#clients, this.#everything, this.#keys]) {
      for (const [name, { expireTime }] of map) {
        if (expireTime <= now) map.delete(name)
      }
    }
  }
}

function has(buckets, mark) {
  for (const bucket of buckets.values()) {
    if (bucket.has(mark)) return true
  }
  return false
}

/** Join an entry with the known one. Sequence and times are joined separately, because clocks need not follow the sequence. */
function raise(floors, name, { sequence, revokeTime, expireTime }) {
  const known = floors.get(name) ?? { sequence: 0, revokeTime: 0, expireTime: 0 }
  floors.set(name, {
    sequence: Math.max(known.sequence, sequence),
    revokeTime: Math.max(known.revokeTime, revokeTime),
    expireTime: Math.max(known.expireTime, expireTime),
  })
}

function hits(floor, claims) {
  if (floor === undefined) return false
  return claims.revision !== null ? claims.revision < floor.sequence : claims.issueTime <= floor.revokeTime
}
