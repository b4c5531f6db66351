// oidc-provider for an application behind a backend-for-frontend: `node bff_provider.mjs PORT APPLICATION`.
//
// APPLICATION is its URL. Access tokens live two seconds, refresh tokens are used once, and a second use ends the grant.
import { exportJWK, generateKeyPair } from 'jose'
import { Provider } from 'oidc-provider'

const [port, application] = process.argv.slice(2)
const { privateKey } = await generateKeyPair('ES256', { extractable: true })
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: 'shop',
      client_secret: 'secret-of-the-application',
      redirect_uris: [`${application}/auth/callback`],
      post_logout_redirect_uris: [`${application}/`],
      backchannel_logout_uri: `${application}/auth/backchannel-logout`,
      backchannel_logout_session_required: true,
      grant_types: ['authorization_code', 'refresh_token'],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  claims: { openid: ['sub'] },
  cookies: { keys: ['a key for cookies'] },
  features: {
    backchannelLogout: { enabled: true },
    devInteractions: { enabled: true },
    revocation: { enabled: true },
  },
  // The provider's own refuses loopback addresses, where the application is.
  fetch: (url, options) => globalThis.fetch(url, { method: options.method, headers: options.headers, body: options.body }),
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  issueRefreshToken: () => true,
  jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'key-1', alg: 'ES256', use: 'sig' }] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  ttl: { AccessToken: 2, Grant: 600, IdToken: 300, Interaction: 600, RefreshToken: 600, Session: 600 },
})
provider.listen(Number(port), '127.0.0.1')
