// The claims of a token, and the checks that are repeated at each use.
import { parseObject } from './encoding.js'
import { InvalidTokenError, malformed } from './errors.js'

const MAX_NUMERIC_DATE = 253402300799 // the last second of the year 9999
/** Seconds by which a token may be used early, because the clock of its issuer may be ahead. Expiry has no such allowance. */
const EARLY_LEEWAY = 5

/**
 * Check the types of the claims in a payload whose signature is verified, and return them.
 *
 * `tokenType` is ACCESS, ID or TRANSACTION, by the `typ` of the token.
 */
export function readClaims(bytes, tokenType, keyId) {
  let payload
  try {
    payload = parseObject(bytes)
  } catch {
    throw malformed('the payload is not a JSON object')
  }
  const text = (name, required = false) => {
    const value = payload[name] ?? (Object.hasOwn(payload, name) || required ? null : '')
    if (typeof value !== 'string') throw malformed(`${name} is not a text`)
    return value
  }
  const date = (name, otherwise) => {
    const value = Object.hasOwn(payload, name) ? payload[name] : otherwise
    if (typeof value !== 'number' || !(value >= 0 && value <= MAX_NUMERIC_DATE)) throw malformed(`${name} is not a time`)
    return value
  }
  const isTransaction = tokenType === 'TRANSACTION'
  const [jti, clientId, party] = [text('jti'), text('client_id'), text('azp')]
  const claims = {
    tokenType,
    keyId,
    issuer: text('iss', true),
    subject: text('sub', true),
    audience: readAudience(payload.aud),
    expireTime: date('exp'),
    issueTime: date('iat'),
    notBefore: date('nbf', 0),
    tokenId: isTransaction ? text('txn', true) : jti,
    sessionId: text('sid'),
    clientId: isTransaction ? text('req_wl', true) : clientId || party,
    scopes: text('scope', isTransaction).split(' ').filter(Boolean),
    revision: readRevision(payload),
    confirmation: readConfirmation(payload),
    payload,
  }
  // RFC 9068, section 2.2; the names of a transaction token.
  if (tokenType === 'ACCESS' && !clientId) throw malformed('client_id is missing')
  if (tokenType !== 'ID' && !claims.tokenId) throw malformed('the id of the token is missing')
  if (isTransaction && !claims.clientId) throw malformed('req_wl is missing')
  return Object.freeze(claims)
}

function readAudience(aud) {
  if (typeof aud === 'string') return [aud]
  if (!Array.isArray(aud) || aud.some((one) => typeof one !== 'string')) throw malformed('aud is not a list of texts')
  return aud
}

/** Return `rev`: the place in the log that the issuer had seen; null for a token without it. */
function readRevision(payload) {
  const rev = payload.rev ?? null
  if (rev !== null && !(Number.isSafeInteger(rev) && rev >= 0)) throw malformed('rev is not a sequence')
  return rev
}

/**
 * Return the thumbprints of the key and the certificate that the token is bound to (RFC 7800); null for a bearer token.
 * Both are empty for a token that is bound in an unknown way.
 */
function readConfirmation(payload) {
  if (!Object.hasOwn(payload, 'cnf')) return null
  const member = (name) => (typeof payload.cnf?.[name] === 'string' ? payload.cnf[name] : '')
  return { jkt: member('jkt'), certificate: member('x5t#S256') }
}

/** Throw EXPIRED or NOT_YET_VALID unless the token is valid at `now`. Times in seconds. */
export function checkTimes(claims, now, leeway) {
  if (claims.expireTime <= now - leeway) throw new InvalidTokenError('EXPIRED', 'the token has expired')
  const latest = now + Math.max(leeway, EARLY_LEEWAY)
  if (claims.notBefore > latest || claims.issueTime > latest) {
    throw new InvalidTokenError('NOT_YET_VALID', 'the token is not valid yet')
  }
}

/** Throw WRONG_AUDIENCE unless the token is for `audience`; null accepts any. */
export function checkAudience(claims, audience) {
  if (audience !== null && !claims.audience.includes(audience)) {
    throw new InvalidTokenError('WRONG_AUDIENCE', 'the token is for another audience')
  }
}

/** Throw INSUFFICIENT_SCOPE unless the token has every required scope. */
export function checkScopes(claims, required) {
  if (!required.every((scope) => claims.scopes.includes(scope))) {
    throw new InvalidTokenError('INSUFFICIENT_SCOPE', 'the token lacks a required scope')
  }
}
