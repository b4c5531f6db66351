// jose: verifies each token of the question against the key set, and that a forged one is refused.
import { createRemoteJWKSet, importJWK, jwtVerify } from 'jose'
import { question } from './wire.mjs'

const { jwks_uri, issuer, tokens } = question
const { keys } = await (await fetch(jwks_uri)).json()
for (const key of keys) await importJWK(key)
const set = createRemoteJWKSet(new URL(jwks_uri))
const verified = []
for (const token of tokens) {
  const { payload, protectedHeader } = await jwtVerify(token, set, { issuer, algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'] })
  const refused = await jwtVerify(token.slice(0, -8) + 'AAAAAAAA', set).then(
    () => false,
    () => true,
  )
  if (!refused) throw new Error('a forged token was accepted')
  verified.push({ header: protectedHeader, claims: payload })
}
console.log(JSON.stringify({ keys, verified }))
