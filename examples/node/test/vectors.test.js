import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { InvalidTokenError, StaleError, StreamProtocolError } from '../src/errors.js'
import { LocalValidator } from '../src/local.js'
import { Possession } from '../src/possession.js'
import { message, readVectors } from './vectors.js'

const SNAPSHOT = 'log-1-of-vectors:0'

class ManualClock {
  constructor(start) {
    this.start = start
    this.at = this.wall = 0
  }
  now = () => this.start + this.wall
  elapsed = () => 1000 + this.at
}

/** Give a validator the keys and an empty set of revocations, and prove its freshness. */
function begin(validator, keySet) {
  validator.replica.receive(message({ reset: true, key_set: keySet, cursor: SNAPSHOT }))
  validator.replica.answer(validator.replica.beginProbe(), SNAPSHOT)
  return validator
}

async function verdict(check) {
  try {
    return { verdict: 'ACTIVE', claims: await check() }
  } catch (error) {
    if (error instanceof InvalidTokenError) return { verdict: error.reason }
    if (error instanceof StaleError) return { verdict: 'STALE' }
    throw error
  }
}

const TOKENS = readVectors('tokens.json')
suite('tokens.json', () => {
  for (const one of TOKENS.cases) {
    test(one.name, async () => {
      const vector = { ...TOKENS.defaults, ...one }
      const validator = new LocalValidator({
        issuer: TOKENS.issuer,
        audience: vector.audience,
        leeway: vector.leeway,
        tokenTypes: vector.token_types,
        clock: new ManualClock(vector.now),
      })
      begin(validator, TOKENS.key_set)
      const found = await verdict(() => validator.check(vector.token, { requiredScopes: vector.required_scopes }))
      assert.equal(found.verdict, vector.verdict)
      if (vector.expect_claims !== undefined) {
        const { claims } = found
        assert.deepEqual(vector.expect_claims, {
          token_type: claims.tokenType,
          token_id: claims.tokenId,
          session_id: claims.sessionId,
          subject: claims.subject,
          client_id: claims.clientId,
          audience: claims.audience,
          scopes: [...claims.scopes].sort(),
        })
      }
    })
  }
})

const SCENARIOS = readVectors('scenarios.json')
suite('scenarios.json', () => {
  for (const { name, steps } of SCENARIOS.scenarios) {
    test(name, async () => {
      const clock = new ManualClock(SCENARIOS.start)
      const { issuer, audience, bound } = SCENARIOS
      const validator = new LocalValidator({ issuer, audience, bound, clock })
      const probes = new Map()
      for (const step of steps) {
        clock.at = step.at
        clock.wall = step.wall ?? step.at
        await run(step, validator, probes)
      }
    })
  }
})

async function run(step, validator, probes) {
  const { replica } = validator
  if (step.do === 'connect') {
    assert.equal(replica.connect(), step.expect_cursor)
  } else if (step.do === 'receive' && step.expect_error) {
    assert.throws(() => replica.receive(message(step.message)), StreamProtocolError)
    replica.distrust()
  } else if (step.do === 'receive') {
    replica.receive(message(step.message))
  } else if (step.do === 'probe') {
    const probe = replica.beginProbe()
    assert.equal(probe.cursor?.text ?? '', step.expect_applied_cursor)
    probes.set(step.probe, probe)
  } else if (step.do === 'answer') {
    replica.answer(probes.get(step.probe), step.head_cursor)
  } else if (step.do === 'sweep') {
    replica.sweep()
  } else {
    assert.equal(step.do, 'check')
    const options = { audience: step.audience, requiredScopes: step.required_scopes ?? [] }
    const found = await verdict(() => validator.check(SCENARIOS.tokens[step.token], options))
    assert.equal(found.verdict, step.verdict, `the token ${step.token} at ${step.at} s`)
  }
}

const PROOFS = readVectors('proofs.json')
suite('proofs.json', () => {
  for (const { name, token, requests } of PROOFS.cases) {
    test(name, async () => {
      const { issuer, audience, start, key_set } = PROOFS
      const validator = begin(new LocalValidator({ issuer, audience, clock: new ManualClock(start) }), key_set)
      const claims = await validator.check(token)
      const possession = new Possession()
      for (const { at, scheme, dpop_proof: proof, method, uri, certificate_thumbprint: certificate, ...request } of requests) {
        const clock = { now: start + at, elapsed: start + at }
        const presented = { scheme, proof, method, uri, certificate }
        const found = await verdict(() => possession.check(claims, token, presented, clock))
        assert.equal(found.verdict, request.verdict, `at ${at} s`)
      }
    })
  }
})
