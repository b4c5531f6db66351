// Conversion of stream messages.
import { StreamProtocolError } from './errors.js'

const CURSOR = /^([A-Za-z0-9_-]{8,32}):(0|[1-9][0-9]{0,15})$/
const TARGETS = ['token_id', 'session_id', 'subject', 'client_id', 'key_id', 'everything']
const BLOCK_TARGETS = { BLOCK_TARGET_TOKEN_ID: 'token_id', BLOCK_TARGET_SESSION_ID: 'session_id' }

/** Return `{ log, sequence }` of a cursor; null for an empty text. */
export function parseCursor(text) {
  if (text === '') return null
  const match = CURSOR.exec(text)
  if (match === null) throw new StreamProtocolError('the text is not a cursor')
  return { log: match[1], sequence: Number(match[2]), text }
}

/** Convert an entry. An entry with an unknown target might revoke anything, so it is an error. */
export function readEntry(message) {
  const target = message.target
  if (!TARGETS.includes(target)) throw new StreamProtocolError('a revocation without a known target')
  return {
    sequence: message.sequence,
    target,
    value: target === 'everything' ? '' : message[target],
    revokeTime: seconds(message.revoke_time),
    expireTime: seconds(message.expire_time),
    tokenExpireTime: message.token_expire_time ? message.token_expire_time.seconds : null,
  }
}

export function readBlock(message) {
  const target = BLOCK_TARGETS[message.target]
  if (target === undefined) throw new StreamProtocolError('a snapshot block without a known target')
  return {
    target,
    bucket: message.bucket,
    fingerprints: message.fingerprints,
    expireTime: seconds(message.expire_time),
  }
}

/** Convert keys to JSON Web Keys, without unset members. */
export function readKeys(keySet) {
  return keySet.keys.map((key) =>
    Object.fromEntries(Object.entries(key).filter(([name, value]) => name !== 'x5c' && value !== '')),
  )
}

const seconds = (timestamp) => (timestamp === null ? 0 : timestamp.seconds + timestamp.nanos / 1e9)
