// Follows StreamRevocations and proves freshness by ConfirmRevocations, until it is closed.
import { fileURLToPath } from 'node:url'
import * as grpc from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { StreamProtocolError } from './errors.js'

/** Probes within the bound, so that one may be lost. */
const PROBES_PER_BOUND = 3
const PROBE_TIMEOUT = 1.5
const SHORTEST_GAP = 0.02
const SWEEP_INTERVAL = 5
/** Silence after which a stream that is behind a known head is replaced. */
const STALL_TIMEOUT = 10
/** Shortest interval between requests for the key set that an unknown `kid` causes. */
const KEY_REFRESH_INTERVAL = 5
const CHANNEL_OPTIONS = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  // By default gRPC waits up to two minutes before it reconnects to a service that was down.
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.max_receive_message_length': 16 * 1024 * 1024,
  // A validator must not share its connection, and its failures, with another channel to the same address.
  'grpc.use_local_subchannel_pool': 1,
}
const PROTOS = fileURLToPath(new URL('../../../protos', import.meta.url))

export function loadProtos(directory = PROTOS) {
  const definition = loadSync(['token_service/v1/token_service.proto', 'token_service/v1/key_service.proto'], {
    includeDirs: [directory],
    keepCase: true,
    longs: Number, // sequences are below 2^53
    enums: String,
    defaults: true,
    arrays: true,
    oneofs: true,
  })
  return grpc.loadPackageDefinition(definition).token_service.v1
}

export class Follower {
  #local
  #options
  #tokens
  #keys
  #stream = null
  #closed = false
  #tasks = []
  #wake = new Bell() // ends a pause of the probes
  #cameBack = new Bell() // ends a pause before the next stream
  #closing = new Bell()
  #keyRefresh = null
  #keysAskedAt = -Infinity
  #keysAnswered = false

  /** Why the last call failed, for a health page; null while the service answers. */
  lastError = null
  /** The number of streams that were opened. */
  streams = 0

  /** `local`: the LocalValidator to feed. Times in seconds. */
  constructor(local, { target, credentials, protoDirectory, subscriberId, bound, backoff }) {
    const { TokenService, KeyService } = loadProtos(protoDirectory)
    this.#local = local
    this.#options = { subscriberId, bound, backoff }
    this.#tokens = new TokenService(target, credentials, CHANNEL_OPTIONS)
    this.#keys = new KeyService(target, credentials, { channelOverride: this.#tokens.getChannel() })
  }

  start() {
    this.#tasks = [this.#follow(), this.#probe()]
  }

  async close() {
    this.#closed = true
    this.#stream?.cancel()
    for (const bell of [this.#wake, this.#cameBack, this.#closing]) bell.ring()
    await Promise.all(this.#tasks)
    this.#tokens.close()
  }

  /** Ask for the key set, because a `kid` is unknown. Resolves to whether the service answered the last request. */
  refreshKeys() {
    const { elapsed } = this.#local
    if (this.#keyRefresh === null && elapsed - this.#keysAskedAt >= KEY_REFRESH_INTERVAL) {
      this.#keysAskedAt = elapsed
      this.#keyRefresh = this.#askForKeys().finally(() => (this.#keyRefresh = null))
    }
    return this.#keyRefresh ?? Promise.resolve(this.#keysAnswered)
  }

  async #askForKeys() {
    try {
      const answer = await this.#call(this.#keys, 'GetKeySet', {})
      this.#local.replica.takeKeySet(answer.key_set)
      this.#keysAnswered = true
    } catch (error) {
      this.lastError = error
      this.#keysAnswered = false
    }
    return this.#keysAnswered
  }

  // --- the stream ---

  async #follow() {
    for (let attempt = 0; !this.#closed; ) {
      const spoke = await this.#readStream()
      attempt = spoke ? 0 : attempt + 1
      if (this.#closed) break
      this.#cameBack.reset()
      if (await this.#cameBack.wait(this.#delay(attempt))) {
        attempt = 0 // the service answers probes again
        await this.#pause(this.#delay(0))
      }
    }
  }

  /** Read one stream to its end. Resolves to whether it delivered a message. */
  async #readStream() {
    if (this.#closed) return false
    const { replica } = this.#local
    let spoke = false
    this.streams += 1
    const request = { cursor: replica.connect(), subscriber_id: this.#options.subscriberId }
    const stream = (this.#stream = this.#tokens.StreamRevocations(request))
    try {
      for await (const message of stream) {
        replica.receive(message)
        if (message.confirmation_requested || (message.caught_up && !spoke)) this.#wake.ring()
        spoke = true
      }
    } catch (error) {
      if (error instanceof StreamProtocolError) replica.distrust()
      // Streams end in order with ABORTED, and are cancelled by `#probe` and `close`.
      if (error.code !== grpc.status.ABORTED && error.code !== grpc.status.CANCELLED) this.lastError = error
    } finally {
      stream.on('error', () => {}) // a late error of a stream that nothing reads
      stream.cancel()
      this.#stream = null
    }
    return spoke
  }

  // --- freshness ---

  async #probe() {
    const interval = this.#options.bound / PROBES_PER_BOUND
    let failures = 0
    let sweptAt = -Infinity
    while (!this.#closed) {
      this.#wake.reset()
      const answered = await this.#probeOnce()
      if (this.#closed) break
      if (answered && failures > 0) this.#cameBack.ring()
      failures = answered ? 0 : failures + 1
      if (this.#local.replica.needsNewStream(STALL_TIMEOUT)) this.#stream?.cancel()
      if (this.#local.elapsed - sweptAt >= SWEEP_INTERVAL) {
        sweptAt = this.#local.elapsed
        this.#local.replica.sweep()
      }
      if (failures > 0) {
        await this.#pause(Math.min(interval, this.#delay(failures - 1)))
      } else {
        await this.#pause(SHORTEST_GAP)
        await this.#wake.wait(interval * (0.8 + 0.2 * Math.random()))
      }
    }
  }

  async #probeOnce() {
    const { replica } = this.#local
    const probe = replica.beginProbe() // reads the clocks: freshness counts from before the call
    const request = {
      subscriber_id: this.#options.subscriberId,
      applied_cursor: probe.cursor?.text ?? '',
      key_set_revision: Math.max(0, replica.keyRevision),
    }
    try {
      const answer = await this.#call(this.#tokens, 'ConfirmRevocations', request)
      replica.answer(probe, answer.head_cursor)
      this.lastError = null
      return true
    } catch (error) {
      this.lastError = error
      return false
    }
  }

  #call(stub, method, request) {
    const deadline = Date.now() + Math.min(PROBE_TIMEOUT, this.#options.bound) * 1000
    return new Promise((resolve, reject) => {
      stub[method](request, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)))
    })
  }

  // --- pauses ---

  /** Seconds before repetition `attempt`: random between half and all of `initial * 2^attempt`, at most `longest`. */
  #delay(attempt) {
    const { initial, longest } = this.#options.backoff
    return Math.min(longest, initial * 2 ** Math.min(attempt, 30)) * (0.5 + Math.random() / 2)
  }

  /** Wait, but no longer than until `close` is called. */
  #pause(seconds) {
    return this.#closing.wait(seconds)
  }
}

/** Ends the pauses of all that wait for it. */
class Bell {
  #rung = false
  #waiting = new Set()

  ring() {
    this.#rung = true
    for (const resolve of this.#waiting) resolve()
  }

  reset() {
    this.#rung = false
  }

  /** Resolves after `seconds`, or as soon as the bell rings, to whether it rang. */
  async wait(seconds) {
    if (this.#rung) return true
    let timer, wake
    await new Promise((resolve) => {
      wake = resolve
      this.#waiting.add(resolve)
      timer = setTimeout(resolve, seconds * 1000)
    })
    clearTimeout(timer)
    this.#waiting.delete(wake)
    return this.#rung
  }
}
