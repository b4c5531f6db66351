// The keys that verify the tokens of the issuer.
import { createPublicKey } from 'node:crypto'

const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']
const MIN_RSA_BITS = 2048
const MAX_RSA_BITS = 8192

/**
 * Return a map from `kid` to `{ algorithm, key }` of the usable keys. A key that must not verify is left out (RFC 7517,
 * section 5).
 */
export function importKeys(jwks) {
  const keys = new Map()
  for (const jwk of jwks) {
    const usable = importKey(jwk)
    if (usable !== null && typeof jwk.kid === 'string' && jwk.kid !== '') keys.set(jwk.kid, usable)
  }
  return keys
}

/** Return `{ algorithm, key }` of a JWK, or null if it must not verify. Each key has one algorithm. */
export function importKey(jwk) {
  const algorithm = algorithmOf(jwk)
  if (algorithm === undefined || PRIVATE_MEMBERS.some((name) => Object.hasOwn(jwk, name))) return null
  if ((jwk.use ?? 'sig') !== 'sig' || (jwk.alg ?? algorithm) !== algorithm) return null
  let key
  try {
    key = createPublicKey({ key: jwk, format: 'jwk' })
  } catch {
    return null // not a valid key of its type
  }
  return algorithm === 'RS256' && !isStrong(key.asymmetricKeyDetails) ? null : { algorithm, key }
}

function algorithmOf({ kty, crv }) {
  if (kty === 'RSA') return 'RS256'
  if (kty === 'EC' && crv === 'P-256') return 'ES256'
  if (kty === 'OKP' && crv === 'Ed25519') return 'EdDSA'
  return undefined
}

function isStrong({ modulusLength, publicExponent }) {
  const isOdd = (publicExponent & 1n) === 1n
  return modulusLength >= MIN_RSA_BITS && modulusLength <= MAX_RSA_BITS && publicExponent >= 3n && isOdd
}
