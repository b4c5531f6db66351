// openid-client: discovery of the question's issuer, then its calls.
import * as client from 'openid-client'
import { answer, question, recordingFetch, signingKey } from './wire.mjs'

const { issuer, client_id, proof, algorithm, claims } = question
const proofs = {
  client_secret_basic: () => client.ClientSecretBasic(proof.secret),
  client_secret_post: () => client.ClientSecretPost(proof.secret),
  private_key_jwt: async () =>
    client.PrivateKeyJwt(await signingKey(proof), {
      [client.modifyAssertion](header, payload) {
        Object.assign(payload, claims)
      },
    }),
  none: () => client.None(),
}

const calls = {
  metadata: (config) => config.serverMetadata(),
  client_credentials: (config, { parameters }) => client.clientCredentialsGrant(config, parameters),
  refresh: (config, { token, parameters }) => client.refreshTokenGrant(config, token, parameters),
  grant: (config, { grant_type, parameters }) => client.genericGrantRequest(config, grant_type, parameters),
  // `location`: the URL to which the login service sends the browser back.
  code: (config, { location, nonce, verifier, state }) =>
    client.authorizationCodeGrant(config, new URL(location), {
      expectedNonce: nonce,
      expectedState: state,
      pkceCodeVerifier: verifier,
    }),
  introspect: (config, { token, parameters }) => client.tokenIntrospection(config, token, parameters),
  revoke: (config, { token, parameters }) => client.tokenRevocation(config, token, parameters),
}

await answer(async (call) => {
  const config = await client.discovery(new URL(issuer), client_id, undefined, await proofs[proof.method](), {
    algorithm,
    execute: [client.allowInsecureRequests],
    [client.customFetch]: recordingFetch,
  })
  return calls[call.call](config, call)
})
