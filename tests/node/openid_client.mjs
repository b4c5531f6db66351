// openid-client: discovery of the question's issuer, then its calls.
import { importJWK } from 'jose'
import * as client from 'openid-client'
import { allowsHttp, answer, question, recordingFetch, signingKey } from './wire.mjs'

const { issuer, client_id, proof, algorithm, claims, dpop } = question
const proofs = {
  client_secret_basic: () => client.ClientSecretBasic(proof.secret),
  client_secret_post: () => client.ClientSecretPost(proof.secret),
  private_key_jwt: async () =>
    client.PrivateKeyJwt(await signingKey(proof), {
      [client.modifyAssertion](header, payload) {
        Object.assign(payload, claims)
      },
    }),
  tls_client_auth: () => client.TlsClientAuth(),
  none: () => client.None(),
}

// With `dpop` (a private JWK), each call proves this key.
const options = {}

const calls = {
  metadata: (config) => config.serverMetadata(),
  client_credentials: (config, { parameters }) => client.clientCredentialsGrant(config, parameters, options),
  refresh: (config, { token, parameters }) => client.refreshTokenGrant(config, token, parameters, options),
  grant: (config, { grant_type, parameters }) => client.genericGrantRequest(config, grant_type, parameters, options),
  // Returns the URL to send the browser to, and what the application has to remember for the call `code`.
  async authorize(config, { parameters, push }) {
    const kept = { verifier: client.randomPKCECodeVerifier(), state: client.randomState(), nonce: client.randomNonce() }
    const all = {
      code_challenge: await client.calculatePKCECodeChallenge(kept.verifier),
      code_challenge_method: 'S256',
      state: kept.state,
      nonce: kept.nonce,
      ...parameters,
    }
    const build = push ? client.buildAuthorizationUrlWithPAR : client.buildAuthorizationUrl
    return { url: (await build(config, all, push ? options : undefined)).href, ...kept }
  },
  // `location`: the URL to which the browser is sent back. `form`: what it posts there, with the response mode form_post.
  code(config, { location, form, nonce, verifier, state, max_age }) {
    const url = new URL(location)
    const response = form ? new Request(url, { method: 'POST', body: new URLSearchParams(form) }) : url
    const expected = { expectedNonce: nonce, expectedState: state, pkceCodeVerifier: verifier, maxAge: max_age }
    return client.authorizationCodeGrant(config, response, expected, undefined, options)
  },
  device: (config, { parameters }) => client.initiateDeviceAuthorization(config, parameters),
  poll: (config, { device }) => client.pollDeviceAuthorizationGrant(config, device),
  userinfo: (config, { token, subject }) => client.fetchUserInfo(config, token, subject, options),
  logout: (config, { parameters }) => client.buildEndSessionUrl(config, parameters).href,
  introspect: (config, { token, parameters }) => client.tokenIntrospection(config, token, parameters),
  revoke: (config, { token, parameters }) => client.tokenRevocation(config, token, parameters),
}

await answer(async (call) => {
  const config = await client.discovery(new URL(issuer), client_id, undefined, await proofs[proof.method](), {
    algorithm,
    execute: allowsHttp ? [client.allowInsecureRequests] : [],
    [client.customFetch]: recordingFetch,
  })
  if (dpop && !options.DPoP) {
    const { d: _, ...publicJwk } = dpop
    const { key: privateKey } = await signingKey({ jwk: dpop, alg: dpop.alg })
    options.DPoP = client.getDPoPHandle(config, { privateKey, publicKey: await importJWK(publicJwk, dpop.alg) })
  }
  return calls[call.call](config, call)
})
