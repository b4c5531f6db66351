// Strict verification of JWTs (RFC 7515, RFC 7519, RFC 8725, RFC 9068): the checks that are needed once for each token.
import { compactVerify, errors } from 'jose'
import { readClaims } from './claims.js'
import { decodeBase64url, parseObject } from './encoding.js'
import { InvalidTokenError, malformed } from './errors.js'

const MAX_TOKEN_BYTES = 16 * 1024
// A token is refused if its header carries a key or a critical extension (RFC 8725, section 3.10; RFC 7515, section
// 4.1.11), or another encoding of the payload (RFC 7797, RFC 7516).
const REFUSED_HEADERS = ['crit', 'jwk', 'jku', 'x5u', 'x5c', 'b64', 'zip', 'enc']
const TYPES = new Map([
  ['at+jwt', 'ACCESS'],
  ['jwt', 'ID'],
  ['txntoken+jwt', 'TRANSACTION'],
])

export class Verifier {
  #issuer
  #tokenTypes
  #keys = new Map()

  /** A number that changes with every change of the keys. Claims verified at another generation must be verified again. */
  generation = 0

  constructor(issuer, tokenTypes) {
    this.#issuer = issuer
    this.#tokenTypes = tokenTypes
  }

  /** Use these keys, the result of `importKeys`. */
  replaceKeys(keys) {
    this.#keys = keys
    this.generation += 1
  }

  get hasKeys() {
    return this.#keys.size > 0
  }

  /** Verify form, header, signature and issuer, and return the claims. Throws InvalidTokenError. */
  async verify(token) {
    if (typeof token !== 'string') throw malformed('not a text')
    if (token.length > MAX_TOKEN_BYTES) throw new InvalidTokenError('TOO_LARGE', `longer than ${MAX_TOKEN_BYTES} bytes`)
    const parts = token.split('.')
    if (parts.length !== 3 || parts[1] === '') throw malformed('not a JWS in compact form')
    const header = decode(parts[0], parseObject, 'the header is not a JSON object')
    decode(parts[2], () => null, 'the signature is not base64url')
    const tokenType = this.#checkType(header)
    const { kid, alg } = header
    if (typeof kid !== 'string' || typeof alg !== 'string') throw malformed('the header lacks alg or kid')
    const known = this.#keys.get(kid)
    if (known === undefined) throw new InvalidTokenError('UNKNOWN_KEY', 'no key with this kid')
    if (known.algorithm !== alg) throw new InvalidTokenError('BAD_SIGNATURE', 'the key is not for this algorithm')
    await verifySignature(token, known)
    const bytes = decode(parts[1], (decoded) => decoded, 'the payload is not base64url')
    const claims = readClaims(bytes, tokenType, kid)
    if (claims.issuer !== this.#issuer) throw new InvalidTokenError('WRONG_ISSUER', 'the token is from another issuer')
    if (tokenType === 'ID' && Object.hasOwn(claims.payload, 'sealed_sub')) {
      // A revocation names the subject itself, so only the service can tell whether it revokes the token.
      throw new InvalidTokenError('WRONG_TYPE', 'an ID token with a pairwise subject needs ValidateToken')
    }
    return claims
  }

  #checkType(header) {
    const refused = REFUSED_HEADERS.find((name) => Object.hasOwn(header, name))
    if (refused !== undefined) throw malformed(`the header has ${refused}`)
    const typ = typeof header.typ === 'string' ? header.typ.toLowerCase() : ''
    const tokenType = TYPES.get(typ.startsWith('application/') ? typ.slice('application/'.length) : typ)
    if (tokenType === undefined || !this.#tokenTypes.includes(tokenType)) {
      throw new InvalidTokenError('WRONG_TYPE', 'typ is none of the expected ones')
    }
    return tokenType
  }
}

function decode(text, read, message) {
  try {
    return read(decodeBase64url(text))
  } catch {
    throw malformed(message)
  }
}

async function verifySignature(token, { key, algorithm }) {
  try {
    await compactVerify(token, key, { algorithms: [algorithm] })
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      throw new InvalidTokenError('BAD_SIGNATURE', 'the signature does not verify')
    }
    throw malformed('not a JWS in compact form')
  }
}
