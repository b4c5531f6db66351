// Proof of possession: whether the sender of a token has the key that the token is bound to: DPoP (RFC 9449) and
// certificates of mutual TLS (RFC 8705).
import { createHash } from 'node:crypto'
import { calculateJwkThumbprint, compactVerify } from 'jose'
import { decodeBase64url, parseObject } from './encoding.js'
import { InvalidTokenError, StaleError } from './errors.js'
import { importKey } from './keys.js'

const MAX_PROOF_BYTES = 8 * 1024
const MAX_PROOF_ID = 256
const MAX_NUMERIC_DATE = 253402300799
/** Seconds for which a proof is accepted after its `iat`, and by which `iat` may be ahead. */
const MAX_AGE = 60
const LEEWAY = 10
const MAX_REMEMBERED = 500_000

export const DPOP_ALGORITHMS = ['RS256', 'ES256', 'EdDSA']

const missing = (what) => new InvalidTokenError('PROOF_MISSING', `the token is bound to ${what}`)
const invalid = (what) => new InvalidTokenError('PROOF_INVALID', `DPoP proof: ${what}`)

/** Checks proofs, and remembers the DPoP proofs that it accepted, so that each is accepted once in this process. */
export class Possession {
  #young = new Set()
  #old = new Set()
  #turnAt = -Infinity

  /**
   * Throw InvalidTokenError unless the request proves the key that its token is bound to.
   *
   * `scheme` is Bearer or DPoP; `proof` the value of the header `DPoP`, or null; `certificate` the SHA-256 thumbprint of
   * the client certificate, or empty. `clock` has `now` and `elapsed` in seconds, as a TokenValidator does.
   */
  async check(claims, token, { scheme, proof = null, method, uri, certificate = '' }, clock) {
    const bound = claims.confirmation
    if (bound !== null && !bound.jkt && !bound.certificate) throw missing('a key in a way that can\'t be checked here')
    if (scheme === 'DPoP' && !bound?.jkt) {
      throw new InvalidTokenError('WRONG_TYPE', 'the token is not bound to a DPoP key; present it with the scheme Bearer')
    }
    if (bound?.certificate) {
      if (certificate === '') throw missing('a client certificate: present it over mutual TLS (RFC 8705, section 3)')
      if (certificate !== bound.certificate) throw wrongKey('the client certificate is another one')
    }
    if (bound?.jkt) {
      if (scheme !== 'DPoP' || proof === null) throw missing('a DPoP key: present it with the scheme DPoP and a DPoP proof')
      const { jkt, id, issueTime } = await verifyProof(proof, { method, uri, token })
      if (jkt !== bound.jkt) throw wrongKey('the DPoP proof is of another key')
      const { now } = clock
      if (!(issueTime >= now - MAX_AGE - LEEWAY && issueTime <= now + LEEWAY)) throw invalid('iat is too long ago or ahead')
      this.#use(`${jkt}${id}`, clock.elapsed)
    }
  }

  /** Remember a proof for as long as `iat` would admit it. */
  #use(id, elapsed) {
    const window = MAX_AGE + 2 * LEEWAY
    if (elapsed >= this.#turnAt) {
      this.#old = elapsed >= this.#turnAt + window ? new Set() : this.#young
      this.#young = new Set()
      this.#turnAt = elapsed + window
    }
    const digest = createHash('sha256').update(id).digest('base64url')
    if (this.#young.has(digest) || this.#old.has(digest)) throw invalid('jti was used before')
    // To forget a proof would admit its repetition.
    if (this.#young.size + this.#old.size >= MAX_REMEMBERED) throw new StaleError('too many DPoP proofs are remembered')
    this.#young.add(digest)
  }
}

/** Return the thumbprint of a certificate in DER: `x5t#S256` (RFC 8705, section 3.1). */
export const certificateThumbprint = (der) => createHash('sha256').update(der).digest('base64url')

const wrongKey = (what) => new InvalidTokenError('WRONG_KEY', `${what} than the token is bound to`)

/** Verify a proof for a request (RFC 9449, section 4.3), without `iat` and the repetition of `jti`. */
async function verifyProof(proof, { method, uri, token }) {
  if (proof.length > MAX_PROOF_BYTES) throw invalid(`longer than ${MAX_PROOF_BYTES} bytes`)
  const parts = proof.split('.')
  if (parts.length !== 3) throw invalid('not a JWS in compact form')
  const header = decode(parts[0], 'the header is not a JSON object')
  if (Object.keys(header).some((name) => !['typ', 'alg', 'jwk'].includes(name))) {
    throw invalid('the header has members other than typ, alg and jwk')
  }
  const { typ, alg, jwk } = header
  if (typeof typ !== 'string' || typ.toLowerCase().replace(/^application\//, '') !== 'dpop+jwt') {
    throw invalid('typ is not dpop+jwt')
  }
  if (jwk === null || typeof jwk !== 'object' || !DPOP_ALGORITHMS.includes(alg)) throw invalid('jwk or alg is unusable')
  const known = importKey(jwk)
  if (known === null || known.algorithm !== alg) throw invalid('jwk is not a usable public key for alg')
  try {
    decodeBase64url(parts[2])
    await compactVerify(proof, known.key, { algorithms: [alg] })
  } catch {
    throw invalid('the signature does not verify')
  }
  const claims = decode(parts[1], 'the payload is not a JSON object')
  const { jti, iat, htm, htu, ath, nonce } = claims
  if (typeof jti !== 'string' || jti === '' || [...jti].length > MAX_PROOF_ID) throw invalid('jti is missing or too long')
  if (typeof iat !== 'number' || !(iat >= 0 && iat <= MAX_NUMERIC_DATE)) throw invalid('iat is missing or no time')
  if (nonce !== undefined && nonce !== null && typeof nonce !== 'string') throw invalid('nonce is not a text')
  if (htm !== method) throw invalid('htm is not the method of the request')
  if (typeof htu !== 'string' || normalized(htu) === null || normalized(htu) !== normalized(uri)) {
    throw invalid('htu is not the URI of the request')
  }
  const wanted = createHash('sha256').update(token).digest('base64url')
  if (ath !== wanted) throw invalid('ath is not the hash of the access token')
  return { jkt: await calculateJwkThumbprint(jwk), id: jti, issueTime: iat }
}

function decode(text, message) {
  try {
    return parseObject(decodeBase64url(text))
  } catch {
    throw invalid(message)
  }
}

const PERCENT = /%([0-9A-Fa-f]{2})/g
const UNRESERVED = /[A-Za-z0-9._~-]/

/** Return an http or https URI without query and fragment, normalized by syntax and scheme; null for any other text. */
function normalized(uri) {
  // The URL parser also accepts white space and backslashes, which a URI does not have.
  if (!/^https?:\/\/[^/?#][!-~]*$/i.test(uri) || uri.includes('\\')) return null
  let url
  try {
    url = new URL(uri)
  } catch {
    return null
  }
  if (url.username !== '' || url.password !== '' || /^[^/?#]*\/\/[^/?#]*@/.test(uri)) return null
  const path = url.pathname.replace(PERCENT, (escaped, digits) => {
    const character = String.fromCharCode(parseInt(digits, 16))
    return UNRESERVED.test(character) ? character : escaped.toUpperCase()
  })
  return `${url.protocol}//${url.host}${path}`
}
