// oidc-provider on Redis, for comparison: `node provider_on_redis.mjs REDIS_URL CHAINS`.
//
// Prints {port, refresh_tokens, access_token}: as many refresh tokens as CHAINS, each of its own grant, and an opaque access
// token to introspect. Access tokens for https://api.example are JWTs of ES256, as those of the service under test.
import { exportJWK, generateKeyPair } from 'jose'
import { Redis } from 'ioredis'
import { Provider } from 'oidc-provider'

const [redisUrl, chains] = process.argv.slice(2)
const redis = new Redis(redisUrl, { enableAutoPipelining: true })
const OPAQUE = 'https://opaque.example'

// One string for each object, and a set of the keys of a grant: what a refresh token needs to be rotated and revoked.
class RedisAdapter {
  constructor(model) {
    this.model = model
  }
  key(id) {
    return `oidc:${this.model}:${id}`
  }
  async upsert(id, payload, expiresIn) {
    const key = this.key(id)
    const multi = redis.multi().set(key, JSON.stringify(payload), 'EX', expiresIn)
    if (payload.grantId && this.model !== 'Grant') {
      multi.sadd(`oidc:grant:${payload.grantId}`, key).expire(`oidc:grant:${payload.grantId}`, expiresIn)
    }
    await multi.exec()
  }
  async find(id) {
    const text = await redis.get(this.key(id))
    return text ? JSON.parse(text) : undefined
  }
  async consume(id) {
    const key = this.key(id)
    const payload = JSON.parse(await redis.get(key))
    await redis.set(key, JSON.stringify({ ...payload, consumed: Math.floor(Date.now() / 1000) }), 'KEEPTTL')
  }
  async destroy(id) {
    await redis.del(this.key(id))
  }
  async revokeByGrantId(grantId) {
    const keys = await redis.smembers(`oidc:grant:${grantId}`)
    await redis.del(...keys, `oidc:grant:${grantId}`)
  }
}

const { privateKey } = await generateKeyPair('ES256', { extractable: true })
const provider = new Provider('http://127.0.0.1', {
  adapter: RedisAdapter,
  clientBasedCORS: () => false,
  clients: [
    {
      client_id: 'web',
      client_secret: 'secret',
      redirect_uris: ['https://app.example/cb'],
      grant_types: ['authorization_code', 'client_credentials', 'refresh_token'],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  cookies: { keys: ['a key for cookies'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'read write',
        audience: resource,
        accessTokenTTL: 600,
        accessTokenFormat: resource === OPAQUE ? 'opaque' : 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
      useGrantedResource: () => true,
    },
  },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  jwks: { keys: [{ ...(await exportJWK(privateKey)), kid: 'key', alg: 'ES256', use: 'sig' }] },
  rotateRefreshToken: true,
  scopes: ['offline_access', 'read', 'write'], // the grant refresh_token exists only with the first
  ttl: { ClientCredentials: 600, Grant: 86400, RefreshToken: 86400, AccessToken: 600 },
})
provider.on('server_error', (ctx, error) => console.error(error))

const client = await provider.Client.find('web')
async function refreshToken(number) {
  const accountId = `user-${number}`
  const resource = 'https://api.example'
  const grant = new provider.Grant({ clientId: 'web', accountId })
  grant.addResourceScope(resource, 'read write')
  const token = new provider.RefreshToken({
    accountId,
    client,
    grantId: await grant.save(),
    gty: 'authorization_code',
    resource,
    scope: 'read write',
    expiresWithSession: false,
    rotations: 0,
  })
  return token.save()
}
const refresh_tokens = await Promise.all(Array.from({ length: Number(chains) }, (_, number) => refreshToken(number)))

const server = provider.listen(0, '127.0.0.1', async () => {
  const { port } = server.address()
  const answer = await fetch(`http://127.0.0.1:${port}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('web:secret')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'read', resource: OPAQUE }),
  })
  const { access_token } = await answer.json()
  console.log(JSON.stringify({ port, refresh_tokens, access_token }))
})
server.keepAliveTimeout = 75_000
