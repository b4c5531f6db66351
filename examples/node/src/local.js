// Local validation. No I/O: the follower feeds the replica.
import { checkAudience, checkScopes, checkTimes } from './claims.js'
import { systemClock } from './clock.js'
import { InvalidTokenError, StaleError } from './errors.js'
import { importKeys } from './keys.js'
import { Replica } from './replica.js'
import { Verifier } from './verifier.js'

export class LocalValidator {
  #audience
  #leeway
  #clock
  #verifier
  #verified = new Map() // tokens with their claims, in the order of their verification
  #capacity

  constructor({
    issuer,
    audience,
    bound = 5,
    leeway = 0,
    tokenTypes = ['ACCESS'],
    clock = systemClock,
    cacheCapacity = 10_000,
  }) {
    if (typeof issuer !== 'string' || issuer === '') throw new TypeError('issuer must be a text, the `iss` of the tokens')
    if (audience === undefined) throw new TypeError('audience must be a text; null accepts tokens for any audience')
    if (!(leeway >= 0 && leeway <= 300)) throw new RangeError('leeway must be between 0 and 300 s')
    if (!(bound >= 0.2 && bound <= 3600)) throw new RangeError('bound must be between 0.2 and 3600 s')
    this.#audience = audience
    this.#leeway = leeway
    this.#clock = clock
    this.#capacity = cacheCapacity
    this.#verifier = new Verifier(issuer, tokenTypes)
    this.replica = new Replica({ issuer, bound, clock, takeKeys: (jwks) => this.#replaceKeys(jwks) })
  }

  /** The time of day in seconds. */
  get now() {
    return this.#clock.now()
  }

  /** Seconds of a clock that does not jump. */
  get elapsed() {
    return this.#clock.elapsed()
  }

  /** Tell whether the validator has keys and a fresh set of revocations. */
  get isReady() {
    return this.#verifier.hasKeys && this.replica.isFresh
  }

  /** Return the claims of a valid token. Throws InvalidTokenError or StaleError. */
  async check(token, { audience = this.#audience, requiredScopes = [] } = {}) {
    if (!Array.isArray(requiredScopes)) throw new TypeError('requiredScopes must be an array')
    const claims = await this.#verify(token)
    // No `await` from here on: a message of the stream can't change the set between the look-up and the proof of its
    // freshness, so the proof belongs to the set that was searched.
    checkTimes(claims, this.#clock.now(), this.#leeway)
    checkAudience(claims, audience)
    if (this.replica.revocations.revokes(claims)) throw new InvalidTokenError('REVOKED', 'the token was revoked')
    // The process may have been stopped before the look-up. By now the token may have expired and its entry may be
    // forgotten, or the freshness may have ended: read the clocks last.
    checkTimes(claims, this.#clock.now(), this.#leeway)
    checkScopes(claims, requiredScopes)
    if (!this.replica.isFresh) throw new StaleError()
    return claims
  }

  async #verify(token) {
    for (;;) {
      const known = this.#verified.get(token)
      if (known !== undefined) return known
      const { generation } = this.#verifier
      let claims
      try {
        claims = await this.#verifier.verify(token)
      } catch (error) {
        if (error.reason === 'UNKNOWN_KEY' && !this.#verifier.hasKeys) throw new StaleError('no keys are known yet')
        throw error
      }
      if (generation !== this.#verifier.generation) continue // the keys changed while the signature was verified
      if (this.#verified.size >= this.#capacity) this.#verified.delete(this.#verified.keys().next().value)
      this.#verified.set(token, claims)
      return claims
    }
  }

  #replaceKeys(jwks) {
    const keys = importKeys(jwks)
    if (keys.size === 0) return false
    this.#verifier.replaceKeys(keys)
    this.#verified.clear()
    return true
  }
}
