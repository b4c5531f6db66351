// The two clocks of a validator, in seconds.

/** The clocks of this machine. Tests replace them. */
export const systemClock = {
  /** The wall clock, compared with `exp` and `nbf`. The machine may set it. */
  now: () => Date.now() / 1000,
  /** A clock that never goes back. On some systems it stops while the machine sleeps, so freshness needs both clocks. */
  elapsed: () => performance.now() / 1000,
}
