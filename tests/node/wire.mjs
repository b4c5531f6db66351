// What both client programs share: the question from standard input, a fetch that records answers, and the outcome as JSON.
import { text } from 'node:stream/consumers'
import { importJWK } from 'jose'
import * as undici from 'undici'

export const question = JSON.parse(await text(process.stdin))
export const wire = []

// With `tls` ({ca, key, cert}, PEM), only servers of this authority are trusted, and `cert` is sent to them.
const send = question.tls
  ? (url, options) => undici.fetch(url, { ...options, dispatcher: new undici.Agent({ connect: question.tls }) })
  : fetch
export const allowsHttp = question.issuer.startsWith('http:')

export async function recordingFetch(url, options) {
  const response = await send(url, options)
  const body = await response.clone().text()
  wire.push({
    method: options?.method ?? 'GET',
    path: new URL(url).pathname,
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body,
  })
  return response
}

export const signingKey = async ({ jwk, alg }) => ({ key: await importJWK(jwk, alg), kid: jwk.kid })

// Runs the calls of the question in turn. A refused call does not end the program: the test looks at the error.
export async function answer(run) {
  const results = []
  for (const call of question.calls) {
    try {
      results.push({ ok: (await run(call)) ?? null })
    } catch (error) {
      results.push({
        refused: {
          name: error.constructor.name,
          code: error.code,
          error: error.error,
          description: error.error_description,
          status: error.status,
          message: `${error.message} ${error.cause?.message ?? ''}`.trim(),
          challenges: error.constructor.name === 'WWWAuthenticateChallengeError' ? error.cause : undefined,
        },
      })
    }
  }
  console.log(JSON.stringify({ results, wire }))
}
