// A verdict counts only with the state that was there when the token was looked up.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LocalValidator } from '../src/local.js'
import { message, readVectors } from './vectors.js'

const { issuer, audience, start, tokens, scenarios } = readVectors('scenarios.json')
const [snapshot] = scenarios.flatMap(({ steps }) => steps).filter(({ do: what }) => what === 'receive')
const KEY_SET = snapshot.message.key_set
const TOKEN = tokens.alice

function freshValidator() {
  const clock = { at: 0, now: () => start + clock.at, elapsed: () => clock.at }
  const validator = new LocalValidator({ issuer, audience, clock })
  validator.replica.receive(message({ reset: true, key_set: KEY_SET, cursor: 'log-1-of-vectors:9' }))
  const prove = (head) => validator.replica.answer(validator.replica.beginProbe(), `log-1-of-vectors:${head}`)
  prove(9)
  return { validator, clock, prove }
}

const entry = (sequence, target) => ({
  sequence,
  ...target,
  revoke_time: '2023-11-14T22:13:20Z',
  expire_time: '2023-11-14T23:13:20Z',
})

test('a revocation that arrives while the signature is verified counts', async () => {
  const { validator, prove } = freshValidator()
  const verdict = validator.check(TOKEN)
  validator.replica.receive(message({ revocations: [entry(10, { subject: 'alice' })], cursor: 'log-1-of-vectors:10' }))
  prove(10)
  await assert.rejects(verdict, { reason: 'REVOKED' })
})

test('freshness that ends while the signature is verified does not count', async () => {
  const { validator, clock } = freshValidator()
  const verdict = validator.check(TOKEN)
  clock.at = 5
  await assert.rejects(verdict, { name: 'StaleError' })
})

test('a token that expires while the signature is verified is refused', async () => {
  const { validator, clock, prove } = freshValidator()
  const verdict = validator.check(TOKEN)
  clock.at = 900
  prove(9)
  await assert.rejects(verdict, { reason: 'EXPIRED' })
})

test('a key that is replaced while it verifies a signature does not count', async () => {
  const { validator } = freshValidator()
  const keys = KEY_SET.keys.filter(({ alg }) => alg !== 'ES256')
  const verdict = validator.check(TOKEN)
  validator.replica.takeKeySet({ issuer, revision: 2, keys })
  await assert.rejects(verdict, { reason: 'UNKNOWN_KEY' })
})

test('a token that was verified before is revoked, expires and needs freshness like a new one', async () => {
  const { validator, clock, prove } = freshValidator()
  await validator.check(TOKEN)
  clock.at = 5
  await assert.rejects(validator.check(TOKEN), { name: 'StaleError' })
  prove(9)
  await validator.check(TOKEN)
  validator.replica.receive(message({ revocations: [entry(10, { session_id: 'session-1' })], cursor: 'log-1-of-vectors:10' }))
  await assert.rejects(validator.check(TOKEN), { reason: 'REVOKED' })
  clock.at = 900
  await assert.rejects(validator.check(TOKEN), { reason: 'EXPIRED' })
})

test('a wall clock that was set ends freshness until the next snapshot', async () => {
  const { validator, clock, prove } = freshValidator()
  clock.now = () => start + clock.at - 100
  prove(9)
  assert.equal(validator.replica.isFresh, false)
  assert.equal(validator.replica.needsNewStream(10), true)
  assert.equal(validator.replica.connect(), '')
})

test('more tokens than the cache holds are verified again', async () => {
  const clock = { now: () => start, elapsed: () => 0 }
  const validator = new LocalValidator({ issuer, audience, clock, cacheCapacity: 1 })
  validator.replica.receive(message({ reset: true, key_set: KEY_SET, cursor: 'log-1-of-vectors:9' }))
  validator.replica.answer(validator.replica.beginProbe(), 'log-1-of-vectors:9')
  for (const token of [TOKEN, tokens.bob, TOKEN]) await validator.check(token)
})
