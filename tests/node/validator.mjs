// The validator of examples/node behind a pipe: a question in JSON a line, its answer a line.
//     {"token": "..."} -> {"verdict": "ACTIVE" | a reason | "STALE"};  {} -> the status
import { createInterface } from 'node:readline'
import { InvalidTokenError, StaleError, TokenValidator } from '../../examples/node/src/index.js'

const validator = new TokenValidator({ ...JSON.parse(process.argv[2]), backoff: { initial: 0.05, longest: 0.5 } }).start()

async function verdict(token) {
  try {
    await validator.validate(token)
    return 'ACTIVE'
  } catch (error) {
    if (error instanceof InvalidTokenError) return error.reason
    if (error instanceof StaleError) return 'STALE'
    throw error
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { token } = JSON.parse(line)
  console.log(JSON.stringify(token === undefined ? validator.status : { verdict: await verdict(token) }))
}
await validator.close()
