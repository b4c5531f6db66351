// The vectors of tests/vectors/validation, and the conversion of their messages.
import { readFileSync } from 'node:fs'

const DIRECTORY = new URL('../../../tests/vectors/validation/', import.meta.url)

export const readVectors = (name) => JSON.parse(readFileSync(new URL(name, DIRECTORY), 'utf8'))

/** Convert a StreamRevocationsResponse from the JSON form of Protocol Buffers to what `@grpc/proto-loader` returns. */
export function message(json) {
  return {
    reset: false,
    cursor: '',
    caught_up: false,
    confirmation_requested: false,
    ...json,
    key_set: json.key_set ? keySet(json.key_set) : null,
    revocations: (json.revocations ?? []).map(revocation),
    snapshot_blocks: (json.snapshot_blocks ?? []).map((block) => ({
      ...block,
      bucket: Number(block.bucket),
      fingerprints: Buffer.from(block.fingerprints, 'base64'),
      expire_time: timestamp(block.expire_time),
    })),
  }
}

const keySet = (json) => ({ ...json, revision: Number(json.revision) })

function revocation(json) {
  const target = ['token_id', 'session_id', 'subject', 'client_id', 'key_id', 'everything'].find((name) => name in json)
  return {
    ...json,
    target,
    sequence: Number(json.sequence),
    revoke_time: timestamp(json.revoke_time),
    expire_time: timestamp(json.expire_time),
    token_expire_time: timestamp(json.token_expire_time),
  }
}

function timestamp(text) {
  if (text === undefined) return null
  const milliseconds = Date.parse(text)
  return { seconds: Math.floor(milliseconds / 1000), nanos: (milliseconds % 1000) * 1e6 }
}
