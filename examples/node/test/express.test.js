import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { request } from 'node:http'
import { after, before, suite, test } from 'node:test'
import express from 'express'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { InvalidTokenError, StaleError } from '../src/errors.js'
import { tokenGuard } from '../src/express.js'

/** Stands for a TokenValidator: the token names its own claims, or the error of its validation. */
const validator = {
  get now() {
    return Date.now() / 1000
  },
  get elapsed() {
    return performance.now() / 1000
  },
  async validate(token, { audience, requiredScopes }) {
    if (token === 'stale') throw new StaleError('the service at 10.0.0.1 is away')
    if (token === 'broken') throw new Error('a defect')
    if (token === 'revoked') throw new InvalidTokenError('REVOKED', 'the token was revoked')
    const { scopes = [], cnf = null, ...payload } = JSON.parse(Buffer.from(token, 'base64url'))
    if (!requiredScopes.every((scope) => scopes.includes(scope))) {
      throw new InvalidTokenError('INSUFFICIENT_SCOPE', 'the token lacks a required scope')
    }
    return { subject: 'alice', audience, scopes, confirmation: cnf, payload }
  },
}

const ORIGIN = 'https://shop.example'
const tokenOf = (claims = {}) => Buffer.from(JSON.stringify(claims)).toString('base64url')

suite('requireToken', () => {
  let server, base
  before(async () => {
    const requireToken = tokenGuard(validator, { realm: 'shop', origin: ORIGIN })
    const app = express()
    const subject = (req, res) => res.send(req.tokenClaims?.subject ?? 'nobody')
    app.get('/public', requireToken({ public: true }), subject)
    app.get('/orders', requireToken({ scopes: ['orders:read'] }), subject)
    app.get('/roles', requireToken({ roles: ['admin', 'owner'] }), subject)
    app.get('/acr', requireToken({ acrValues: ['mfa'], maxAge: 60 }), subject)
    app.get('/twice', requireToken(), requireToken({ scopes: ['read'] }), subject)
    app.get('/any', requireToken(), subject)
    app.get('/unnamed', tokenGuard(validator)(), subject)
    app.use((error, req, res, next) => res.status(500).send('an error'))
    await new Promise((resolve) => (server = app.listen(0, '127.0.0.1', resolve)))
    base = `http://127.0.0.1:${server.address().port}`
  })
  after(() => server.close())

  async function get(path, authorization, headers = {}) {
    const answer = await fetch(base + path, { headers: { ...(authorization ? { authorization } : {}), ...headers } })
    return { status: answer.status, text: await answer.text(), challenge: answer.headers.get('www-authenticate'), headers: answer.headers }
  }

  test('a public route needs no token', async () => {
    assert.equal((await get('/public')).text, 'nobody')
    assert.equal((await get('/public', 'Bearer revoked')).status, 200)
  })

  test('a valid token is admitted, and the handler has its claims', async () => {
    const answer = await get('/orders', `Bearer ${tokenOf({ scopes: ['orders:read'] })}`)
    assert.deepEqual([answer.status, answer.text], [200, 'alice'])
  })

  for (const authorization of [undefined, 'Basic YTpi', 'Bearer', 'Bearer a b']) {
    test(`no token is challenged without an error code: ${authorization}`, async () => {
      const answer = await get('/any', authorization)
      assert.equal(answer.status, 401)
      assert.equal(answer.challenge, 'Bearer realm="shop", DPoP realm="shop", algs="RS256 ES256 EdDSA"')
    })
  }

  test('two Authorization headers are refused', async () => {
    const status = await new Promise((resolve) => {
      const asked = request(`${base}/any`, (answer) => resolve(answer.resume().statusCode))
      asked.setHeader('Authorization', ['Bearer a', 'Bearer b'])
      asked.end()
    })
    assert.equal(status, 400)
  })

  test('a revoked token is refused with its error', async () => {
    const answer = await get('/any', 'bearer revoked')
    assert.equal(answer.status, 401)
    assert.match(answer.challenge, /^Bearer realm="shop", error="invalid_token", error_description="the token was revoked"/)
    assert.equal(answer.headers.get('cache-control'), 'no-store')
  })

  test('a missing scope is forbidden, and the challenge names the scope', async () => {
    const answer = await get('/orders', `Bearer ${tokenOf()}`)
    assert.equal(answer.status, 403)
    assert.match(answer.challenge, /error="insufficient_scope".* scope="orders:read"/)
  })

  for (const [claims, status] of [[{ roles: ['owner'] }, 200], [{ roles: 'admin' }, 200], [{ roles: ['guest'] }, 403], [{}, 403]]) {
    test(`the roles ${JSON.stringify(claims)} get ${status}`, async () => {
      assert.equal((await get('/roles', `Bearer ${tokenOf(claims)}`)).status, status)
    })
  }

  for (const [context, status] of [
    [{ acr: 'mfa', auth_time: 0 }, 200],
    [{ acr: 'pwd', auth_time: 0 }, 401],
    [{ acr: 'mfa', auth_time: -120 }, 401],
    [{ acr: 'mfa' }, 401],
  ]) {
    test(`the authentication ${JSON.stringify(context)} gets ${status}`, async () => {
      const now = Math.floor(Date.now() / 1000)
      const auth_ctx = { ...context, ...(context.auth_time === undefined ? {} : { auth_time: now + context.auth_time }) }
      const answer = await get('/acr', `Bearer ${tokenOf({ auth_ctx })}`)
      assert.equal(answer.status, status)
      if (status === 401) {
        assert.match(answer.challenge, /error="insufficient_user_authentication".* acr_values="mfa", max_age="60"/)
      }
    })
  }

  test('a validator that can not judge answers 503 and tells nothing about the service', async () => {
    const answer = await get('/any', 'Bearer stale')
    assert.deepEqual([answer.status, answer.text], [503, 'temporarily unavailable; retry later'])
    assert.equal(answer.headers.get('retry-after'), '1')
    assert.equal(answer.challenge, null)
  })

  test('an unexpected error goes to the error handler', async () => {
    assert.equal((await get('/any', 'Bearer broken')).status, 500)
  })

  test('a token that is bound to a certificate is refused without TLS', async () => {
    const answer = await get('/any', `Bearer ${tokenOf({ cnf: { jkt: '', certificate: 'x' } })}`)
    assert.equal(answer.status, 401)
    assert.match(answer.challenge, /error="invalid_token", error_description="the token is bound to a client certificate/)
  })

  test('a DPoP token needs a proof for the request, and the proof is used once', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256')
    const jwk = await exportJWK(publicKey)
    const token = tokenOf({ scopes: ['read'], cnf: { jkt: await calculateJwkThumbprint(jwk), certificate: '' } })
    const ath = createHash('sha256').update(token).digest('base64url')
    const proof = (htu) =>
      new SignJWT({ htm: 'GET', htu, ath, jti: htu }).setIssuedAt().setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk }).sign(privateKey)
    assert.equal((await get('/twice', `Bearer ${token}`)).status, 401)
    const dpop = await proof(`${ORIGIN}/twice`)
    assert.equal((await get('/twice?page=2', `DPoP ${token}`, { dpop })).status, 200)
    const again = await get('/twice', `DPoP ${token}`, { dpop })
    assert.equal(again.status, 401)
    assert.match(again.challenge, /^DPoP realm="shop", error="invalid_dpop_proof", error_description="DPoP proof: jti was used before"/)
    const elsewhere = await proof(`${ORIGIN}/any`)
    assert.equal((await get('/twice', `DPoP ${token}`, { dpop: elsewhere })).status, 401)
    assert.equal((await get('/any', `DPoP ${token}`, { dpop: elsewhere })).status, 200)
    // The name that the request gives in `Host` does not count.
    const ofHost = await get('/any', `DPoP ${token}`, { dpop: await proof(`${base}/any`) })
    assert.match(ofHost.challenge, /htu is not the URI of the request/)
    const unnamed = await get('/unnamed', `DPoP ${token}`, { dpop: await proof(`${base}/unnamed`) })
    assert.match(unnamed.challenge, /error="invalid_token", error_description="the token is bound to a DPoP key/)
  })

  test('requirements that would require nothing are a mistake', () => {
    const requireToken = tokenGuard(validator)
    for (const wrong of [{ scopes: 'read' }, { scope: ['read'] }, { roles: [''] }, { scopes: ['a b'] }, { maxAge: 'x' }]) {
      assert.throws(() => requireToken(wrong), TypeError)
    }
  })
})
