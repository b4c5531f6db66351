// A middleware for Express that admits requests with a valid access token (RFC 6750, 9449, 9470).
//
//     const requireToken = tokenGuard(validator, { realm: 'shop' })
//     app.get('/orders', requireToken({ scopes: ['orders:read'] }), listOrders)
//     app.get('/healthz', requireToken({ public: true }), health)
//
// A handler reads the claims from `req.tokenClaims`.
//
// Browsers send the preflight of CORS (OPTIONS) without a token. Use the middleware of the package `cors` before this one:
// it answers the preflight itself.
import { InvalidTokenError, StaleError } from './errors.js'
import { certificateThumbprint, DPOP_ALGORITHMS, Possession } from './possession.js'

const CREDENTIALS = /^(Bearer|DPoP) +([^ ]+) *$/i
const VALUE = /^[!#-[\]-~]+$/ // of a scope (RFC 6749, section 3.3)
const EARLY_LEEWAY = 5
const RETRY_AFTER = '1'

/**
 * Return `requireToken`.
 *
 * @param {import('./validator.js').TokenValidator} validator
 * @param {object} [options]
 * @param {string} [options.realm] a name for the challenges
 * @param {string} [options.resourceMetadata] the URL of the metadata of this resource (RFC 9728)
 * @param {string} [options.origin] the origin by which clients know this service, e.g. `https://shop.example`: a DPoP proof
 *   must be for it. `Host` says nothing, because any client can choose it. Without it, DPoP-bound tokens are refused.
 */
export function tokenGuard(validator, { realm = '', resourceMetadata = '', origin = '' } = {}) {
  if (origin !== '' && new URL(origin).origin !== origin) throw new TypeError('origin must be like https://shop.example')
  const possession = new Possession()
  const proven = new WeakSet() // requests whose proof was checked: a proof is accepted once
  const common = {}
  if (realm !== '') common.realm = realm
  if (resourceMetadata !== '') common.resource_metadata = resourceMetadata

  /**
   * Return a handler that continues with a request that has a valid token, and answers others 400, 401, 403 or 503.
   *
   * `scopes`: the token must have all. `roles`, `groups`, `entitlements`: at least one of each that is given.
   * `acrValues`, `maxAge` (seconds): the authentication of the user. `audience` replaces that of the validator. `public`:
   * every request is admitted, and its token is not read.
   */
  return function requireToken({ public: isPublic = false, ...given } = {}) {
    const required = checkedRequirements(given)
    if (isPublic) return (req, res, next) => next()
    return async function admit(req, res, next) {
      try {
        const { scheme, token } = credentialsOf(req)
        const claims = await validator.validate(token, { audience: required.audience, requiredScopes: required.scopes })
        if (!proven.has(req)) {
          const proof = origin === '' ? null : proofOf(req) // no proof counts without the origin
          const uri = `${origin}${req.originalUrl}`
          const presented = { scheme, proof, method: req.method, uri, certificate: certificateOf(req) }
          await possession.check(claims, token, presented, validator)
          proven.add(req)
        }
        checkRequirements(claims, required, validator.now)
        req.tokenClaims = claims
      } catch (error) {
        refuse(res, error, required, common, next)
        return
      }
      next()
    }
  }
}

/** A request whose credentials are missing (401) or malformed (400). */
class CredentialsError extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

function credentialsOf(req) {
  const values = req.headersDistinct.authorization ?? []
  if (values.length > 1) throw new CredentialsError(400, 'more than one Authorization header')
  const match = CREDENTIALS.exec(values[0] ?? '')
  if (match === null) throw new CredentialsError(401, 'an access token is needed')
  return { scheme: match[1].toLowerCase() === 'dpop' ? 'DPoP' : 'Bearer', token: match[2] }
}

function proofOf(req) {
  const values = req.headersDistinct.dpop ?? []
  if (values.length > 1) throw new InvalidTokenError('PROOF_INVALID', 'DPoP proof: more than one')
  return values[0] ?? null
}

/** Return the thumbprint of the client certificate of this connection; empty without one. */
function certificateOf(req) {
  const der = req.socket.getPeerCertificate?.()?.raw
  return der === undefined ? '' : certificateThumbprint(der)
}

function checkedRequirements({ scopes = [], roles = [], groups = [], entitlements = [], acrValues = [], maxAge, audience, ...other }) {
  const lists = { scopes, roles, groups, entitlements, acrValues }
  for (const [name, values] of Object.entries(lists)) {
    if (!Array.isArray(values) || values.some((value) => typeof value !== 'string' || value === '')) {
      throw new TypeError(`${name} must be an array of texts that are not empty`)
    }
  }
  for (const value of [...scopes, ...acrValues]) {
    if (!VALUE.test(value)) throw new TypeError(`${JSON.stringify(value)} can't be a scope or an acr value`)
  }
  if (maxAge !== undefined && !(maxAge >= 0)) throw new TypeError('maxAge must be a number of seconds')
  // A misspelled requirement would require nothing.
  if (Object.keys(other).length > 0) throw new TypeError(`unknown requirements: ${Object.keys(other).join(', ')}`)
  return { ...lists, maxAge, audience }
}

function checkRequirements({ payload }, required, now) {
  for (const name of ['roles', 'groups', 'entitlements']) {
    const has = [payload[name]].flat()
    if (required[name].length > 0 && !required[name].some((value) => has.includes(value))) {
      throw new InvalidTokenError('MISSING_ROLE', `the token has none of the required ${name}`)
    }
  }
  const { acr, auth_time: authTime } = payload.auth_ctx ?? {}
  if (required.acrValues.length > 0 && !required.acrValues.includes(acr)) {
    throw new InvalidTokenError('INSUFFICIENT_AUTHENTICATION', 'a stronger authentication of the user is required')
  }
  if (required.maxAge !== undefined && !(authTime >= now - required.maxAge && authTime <= now + EARLY_LEEWAY)) {
    throw new InvalidTokenError('INSUFFICIENT_AUTHENTICATION', 'a more recent authentication of the user is required')
  }
}

function refuse(res, error, required, common, next) {
  const challenge = (status, parameters = {}) => {
    const all = { ...common, ...parameters }
    const isOfProof = ['invalid_dpop_proof', 'use_dpop_nonce'].includes(all.error)
    const challenges = isOfProof ? [] : [format('Bearer', all)]
    challenges.push(format('DPoP', { ...all, algs: DPOP_ALGORITHMS.join(' ') }))
    res.setHeader('WWW-Authenticate', challenges)
    answer(res, status, error.message)
  }
  if (error instanceof CredentialsError) {
    if (error.status === 401) challenge(401) // no error code without credentials (RFC 6750, section 3.1)
    else challenge(400, { error: 'invalid_request', error_description: error.message })
  } else if (error instanceof InvalidTokenError) {
    const [status, parameters] = refusalOf(error.reason, required)
    challenge(status, { error: 'invalid_token', error_description: error.message, ...parameters })
  } else if (error instanceof StaleError) {
    // The cause concerns operators: a stranger learns nothing about the service behind.
    res.setHeader('Retry-After', RETRY_AFTER)
    answer(res, 503, 'temporarily unavailable; retry later')
  } else {
    next(error)
  }
}

function refusalOf(reason, required) {
  switch (reason) {
    case 'INSUFFICIENT_SCOPE':
      return [403, { error: 'insufficient_scope', scope: [...required.scopes].sort().join(' ') }]
    case 'MISSING_ROLE':
      return [403, { error: 'insufficient_scope' }]
    case 'INSUFFICIENT_AUTHENTICATION': {
      const parameters = { error: 'insufficient_user_authentication' }
      if (required.acrValues.length > 0) parameters.acr_values = required.acrValues.join(' ')
      if (required.maxAge !== undefined) parameters.max_age = String(Math.floor(required.maxAge))
      return [401, parameters]
    }
    case 'PROOF_INVALID':
      return [401, { error: 'invalid_dpop_proof' }]
    default:
      return [401, {}]
  }
}

const format = (scheme, parameters) =>
  scheme + Object.entries(parameters).map(([name, value]) => ` ${name}="${quotable(value)}"`).join(',')

/** Replace characters that a quoted string of a challenge may not contain (RFC 6750, section 3). */
const quotable = (text) => text.replace(/[^ !#-[\]-~]/g, '?')

function answer(res, status, text) {
  res.setHeader('Cache-Control', 'no-store')
  res.status(status).type('text/plain').send(text)
}
