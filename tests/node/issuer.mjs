// oidc-provider as an issuer of ID tokens: `node issuer.mjs PORT AUDIENCE KEY CERTIFICATE [METADATA]`. KEY and CERTIFICATE
// are files, METADATA is JSON with metadata of the relying party.
//
// Besides the provider's own paths, POST /test/rotate replaces its signing key and POST /test/sign signs the JSON
// {header, claims} of the body with the present one.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import { Provider } from 'oidc-provider'

const [port, audience, key, certificate, metadata = '{}'] = process.argv.slice(2)
const issuer = `https://localhost:${port}`
let number = 0
let current

async function start() {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  const kid = `key-${++number}`
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: audience,
        client_secret: 'secret-of-the-relying-party',
        redirect_uris: ['https://app.example/cb'],
        id_token_signed_response_alg: 'ES256',
        ...JSON.parse(metadata),
      },
    ],
    claims: { openid: ['sub'], profile: ['groups', 'name'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['a key for cookies'] },
    features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
    // Without the dispatcher that refuses loopback addresses.
    fetch: (url, options) => fetch(url, { ...options, dispatcher: undefined }),
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, name: 'Alice', groups: ['staff', 'oncall'] }) }),
    jwks: { keys: [{ ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig' }] },
    pkce: { required: () => true },
    ttl: { AccessToken: 600, Grant: 600, IdToken: 300, Interaction: 600, Session: 600 },
  })
  current = { callback: provider.callback(), kid, privateKey }
}

async function test(request) {
  if (request.url === '/test/rotate') {
    await start()
    return { kid: current.kid }
  }
  let text = ''
  for await (const chunk of request) text += chunk
  const { header, claims } = JSON.parse(text)
  return {
    token: await new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid: current.kid, ...header }).sign(current.privateKey),
  }
}

await start()
createServer({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) => {
  if (!request.url.startsWith('/test/')) return current.callback(request, response)
  test(request).then(
    (answer) => response.setHeader('content-type', 'application/json').end(JSON.stringify(answer)),
    (error) => response.writeHead(500).end(String(error)),
  )
}).listen(Number(port), '127.0.0.1')
