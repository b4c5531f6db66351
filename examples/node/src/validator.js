// A validator for tokens of token-service: verifies them in this process and follows their revocations.
import { randomUUID } from 'node:crypto'
import * as grpc from '@grpc/grpc-js'
import { InvalidTokenError, StaleError } from './errors.js'
import { Follower } from './follower.js'
import { LocalValidator } from './local.js'

const LOCAL_TARGET = /^(?:unix:|(?:(?:ipv4|ipv6|dns):(?:\/\/\/)?)?(?:127\.0\.0\.1|localhost|\[::1\]):[0-9]+$)/

export class TokenValidator {
  #local
  #follower
  #closed = false

  /**
   * Configure a validator. All times are in seconds.
   *
   * @param {object} options
   * @param {string} options.issuer `iss` of the tokens, compared exactly
   * @param {string} options.target gRPC target of the service, such as `tokens.internal:50051`
   * @param {string | null} options.audience the audience that `aud` must contain; null accepts any
   * @param {number} [options.bound] S: a token whose revocation was acknowledged at t is not accepted after t + S
   * @param {number} [options.leeway] difference between clocks to allow at `exp`, `nbf` and `iat`, at most 300
   * @param {string[]} [options.tokenTypes] the accepted kinds: ACCESS, ID, TRANSACTION
   * @param {grpc.ChannelCredentials} [options.credentials] without them: TLS with the default roots, and no TLS to a
   *   target on this machine
   * @param {string} [options.subscriberId] a unique name of this validator, the same after a restart
   * @param {string} [options.protoDirectory] the directory with `token_service/v1`
   */
  constructor({
    target,
    bound = 5,
    credentials = LOCAL_TARGET.test(target) ? grpc.credentials.createInsecure() : grpc.credentials.createSsl(),
    subscriberId = randomUUID(),
    protoDirectory,
    backoff = { initial: 0.2, longest: 10 },
    ...local
  }) {
    this.#local = new LocalValidator({ ...local, bound })
    this.#follower = new Follower(this.#local, { target, credentials, protoDirectory, subscriberId, bound, backoff })
  }

  /** Start following the revocations, and return at once. */
  start() {
    this.#follower.start()
    return this
  }

  /** End all calls. Resolves when they have ended. */
  async close() {
    this.#closed = true
    await this.#follower.close()
  }

  /** Whether the validator can judge tokens now. */
  get isReady() {
    return !this.#closed && this.#local.isReady
  }

  /** The state of the validator, for operators. `lastError` is null while the service answers. */
  get status() {
    const { replica } = this.#local
    const { streams, lastError } = this.#follower
    const cursor = replica.cursor?.text ?? ''
    return { isReady: this.isReady, cursor, streams, resets: replica.resets, lastError: lastError?.message ?? null }
  }

  /** The time of day in seconds. */
  get now() {
    return this.#local.now
  }

  /** Seconds of a clock that does not jump. */
  get elapsed() {
    return this.#local.elapsed
  }

  /** Resolves when the validator can judge tokens. Rejects with StaleError after `timeout` seconds. */
  async ready(timeout = 60) {
    const end = this.#local.elapsed + timeout
    while (!this.isReady) {
      if (this.#closed || this.#local.elapsed >= end) {
        throw new StaleError(`not ready: ${this.status.lastError ?? 'the service sent no revocations yet'}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /**
   * Return the claims of a valid token.
   *
   * Rejects with InvalidTokenError for an invalid token, and with StaleError if the validator can't prove now that the
   * token is not revoked. Does not check the proof of a bound token: see `Possession`.
   */
  async validate(token, { audience, requiredScopes } = {}) {
    if (this.#closed) throw new StaleError('the validator is closed')
    try {
      return await this.#local.check(token, { audience, requiredScopes })
    } catch (error) {
      if (!(error instanceof InvalidTokenError) || error.reason !== 'UNKNOWN_KEY') throw error
    }
    // The stream may be about to bring the key.
    if (!(await this.#follower.refreshKeys())) throw new StaleError('no key with this kid is known, and the service does not answer')
    return await this.#local.check(token, { audience, requiredScopes })
  }
}
