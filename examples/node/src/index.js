export { InvalidTokenError, StaleError } from './errors.js'
export { certificateThumbprint, Possession } from './possession.js'
export { TokenValidator } from './validator.js'
