// oauth4webapi: discovery of the question's issuer, then its calls. Stricter than openid-client about each answer.
import * as oauth from 'oauth4webapi'
import { allowsHttp, answer, question, recordingFetch, signingKey } from './wire.mjs'

const { issuer, client_id, proof, algorithm } = question
const options = { [oauth.allowInsecureRequests]: allowsHttp, [oauth.customFetch]: recordingFetch }
const proofs = {
  client_secret_basic: () => oauth.ClientSecretBasic(proof.secret),
  client_secret_post: () => oauth.ClientSecretPost(proof.secret),
  private_key_jwt: async () => oauth.PrivateKeyJwt(await signingKey(proof)),
  tls_client_auth: () => oauth.TlsClientAuth(),
  none: () => oauth.None(),
}
const client = { client_id }

const calls = {
  metadata: (server) => server,
  async client_credentials(server, proven, { parameters }) {
    const response = await oauth.clientCredentialsGrantRequest(server, client, proven, new URLSearchParams(parameters), options)
    return oauth.processClientCredentialsResponse(server, client, response)
  },
  async refresh(server, proven, { token, parameters }) {
    const additionalParameters = new URLSearchParams(parameters)
    const response = await oauth.refreshTokenGrantRequest(server, client, proven, token, { ...options, additionalParameters })
    return oauth.processRefreshTokenResponse(server, client, response)
  },
  async grant(server, proven, { grant_type, parameters, token_type }) {
    const form = new URLSearchParams(parameters)
    const response = await oauth.genericTokenEndpointRequest(server, client, proven, grant_type, form, options)
    // A transaction token is no bearer token: its answer has the token type N_A.
    const recognizedTokenTypes = token_type ? { [token_type]: () => {} } : undefined
    return oauth.processGenericTokenEndpointResponse(server, client, response, { recognizedTokenTypes })
  },
  async code(server, proven, { location, nonce, verifier, state }) {
    const url = new URL(location)
    const callback = oauth.validateAuthResponse(server, client, url, state)
    const redirectUri = url.origin + url.pathname
    const response = await oauth.authorizationCodeGrantRequest(server, client, proven, callback, redirectUri, verifier, options)
    return oauth.processAuthorizationCodeResponse(server, client, response, { expectedNonce: nonce, requireIdToken: true })
  },
  async introspect(server, proven, { token, parameters }) {
    const additionalParameters = new URLSearchParams(parameters)
    const response = await oauth.introspectionRequest(server, client, proven, token, { ...options, additionalParameters })
    return oauth.processIntrospectionResponse(server, client, response)
  },
  async revoke(server, proven, { token, parameters }) {
    const additionalParameters = new URLSearchParams(parameters)
    const response = await oauth.revocationRequest(server, client, proven, token, { ...options, additionalParameters })
    return oauth.processRevocationResponse(response)
  },
}

await answer(async (call) => {
  const url = new URL(issuer)
  const server = await oauth.processDiscoveryResponse(url, await oauth.discoveryRequest(url, { algorithm, ...options }))
  return calls[call.call](server, await proofs[proof.method](), call)
})
