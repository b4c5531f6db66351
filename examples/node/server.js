// A shop whose orders need a token: a complete program.
//
//     ISSUER=http://127.0.0.1:8080 TARGET=127.0.0.1:50051 AUDIENCE=api PORT=3000 node server.js
//
// With ORIGIN, e.g. https://shop.example, it accepts tokens that are bound to a DPoP key.
// With TLS_CERT and TLS_KEY (files in PEM) it serves HTTPS and accepts tokens that are bound to the client's certificate.
import { readFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import express from 'express'
import { tokenGuard } from 'token-service-validator/express'
import { TokenValidator } from 'token-service-validator'

const { ISSUER, TARGET, AUDIENCE, BOUND = '5', PORT = '3000', ORIGIN, TLS_CERT, TLS_KEY } = process.env
const validator = new TokenValidator({ issuer: ISSUER, target: TARGET, audience: AUDIENCE, bound: Number(BOUND) }).start()
const requireToken = tokenGuard(validator, { realm: 'shop', origin: ORIGIN })

const app = express()
app.disable('x-powered-by')
app.get('/healthz', requireToken({ public: true }), (req, res) => res.sendStatus(validator.isReady ? 200 : 503))
app.get('/orders', requireToken({ scopes: ['read'] }), (req, res) => res.send(`orders of ${req.tokenClaims.subject}`))
app.get('/reports', requireToken({ roles: ['auditor'] }), (req, res) => res.send('reports'))

function createServer() {
  if (TLS_CERT === undefined) return createHttpServer(app)
  const [cert, key] = [TLS_CERT, TLS_KEY].map((file) => readFileSync(file))
  // Certificates of any authority are accepted: the handshake proves the key, and the token names the one certificate.
  return createHttpsServer({ cert, key, requestCert: true, rejectUnauthorized: false }, app)
}

const server = createServer().listen(Number(PORT), '127.0.0.1', () => console.log(`port ${server.address().port}`))
process.once('SIGTERM', async () => {
  server.close()
  await validator.close()
})
