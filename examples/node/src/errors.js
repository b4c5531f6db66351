// The errors of this package. Their messages contain no token and are safe to show to the caller.

/** The token is invalid. `reason` is a name of InvalidReason in token_service.proto, without its prefix. */
export class InvalidTokenError extends Error {
  constructor(reason, message) {
    super(message)
    this.name = 'InvalidTokenError'
    this.reason = reason
  }
}

/** The validator can't prove now that the token is not revoked. It may be valid. */
export class StaleError extends Error {
  constructor(message = 'the validator can\'t prove now that the token is not revoked') {
    super(message)
    this.name = 'StaleError'
  }
}

/** A message of the service breaks the protocol of the stream. The set of revocations stays unchanged. */
export class StreamProtocolError extends Error {
  constructor(message) {
    super(message)
    this.name = 'StreamProtocolError'
  }
}

export const malformed = (message) => new InvalidTokenError('MALFORMED', message)
