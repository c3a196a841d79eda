// oidc-provider: every client authentication method, JWT and opaque tokens, mutual TLS on a second listener; and an API
// that asks its introspection endpoint about each token.
import { X509Certificate, createPublicKey } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';

import Provider, { errors } from 'oidc-provider';

import { fixture, listen, publish } from './lib.js';

const SECRET = 'a secret of more than thirty-two bytes';
const JWT = 'https://api.example/jwt';
const SHORT = 2;
const LONG = 3600;

const rsa = JSON.parse(fixture('keys/rsa.jwk'));
const keys = ['rsa', 'ec', 'ec384', 'ed'].map((name) => {
  const jwk = JSON.parse(fixture(`keys/${name}.jwk`));
  return { ...createPublicKey({ key: jwk, format: 'jwk' }).export({ format: 'jwk' }), kid: jwk.kid };
});
const selfSigned = new X509Certificate(fixture('certificates/self_signed.pem'));
const certified = {
  ...selfSigned.publicKey.export({ format: 'jwk' }),
  x5c: [selfSigned.raw.toString('base64')],
};

function client(id, method, more = {}) {
  return {
    client_id: id,
    client_secret: SECRET,
    token_endpoint_auth_method: method,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: 'orders.read orders.write',
    ...more,
  };
}

// What each resource's tokens are like (RFC 8707).
const resources = {
  [JWT]: { accessTokenFormat: 'jwt', accessTokenTTL: LONG },
  'https://api.example/jwt/short': { accessTokenFormat: 'jwt', accessTokenTTL: SHORT, audience: JWT },
  'https://api.example/jwt/other': { accessTokenFormat: 'jwt', accessTokenTTL: LONG },
  'https://api.example/opaque': { accessTokenFormat: 'opaque', accessTokenTTL: LONG },
  'urn:example:opaque': { accessTokenFormat: 'opaque', accessTokenTTL: LONG },
  'https://api.example/opaque/short': { accessTokenFormat: 'opaque', accessTokenTTL: SHORT },
};

const plain = http.createServer();
const tls = https.createServer({
  cert: fixture('certificates/server.pem'),
  key: fixture('certificates/server.key'),
  ca: fixture('certificates/ca.pem'),
  requestCert: true,
  rejectUnauthorized: false,
});
const [issuer, mutual] = [await listen(plain), await listen(tls, 'https')];
const certificate = (ctx) => ctx.socket.getPeerX509Certificate?.();

const provider = new Provider(issuer, {
  clients: [
    client('basic', 'client_secret_basic'),
    client('odd id+%40', 'client_secret_basic', { client_secret: 'p@ss w/rd+ %&=?' }),
    client('post', 'client_secret_post'),
    client('secret_jwt', 'client_secret_jwt'),
    client('key_jwt', 'private_key_jwt', { jwks: { keys } }),
    client('tls', 'tls_client_auth', { tls_client_auth_san_dns: 'client.example' }),
    client('self_signed', 'self_signed_tls_client_auth', { jwks: { keys: [certified] } }),
    client('none', 'none'),
    client('api', 'client_secret_basic'),
  ],
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth',
    'self_signed_tls_client_auth', 'none',
  ],
  discovery: { mtls_endpoint_aliases: { token_endpoint: `${mutual}/token` } },
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    mTLS: {
      enabled: true,
      tlsClientAuth: true,
      selfSignedTlsClientAuth: true,
      getCertificate: certificate,
      certificateAuthorized: (ctx) => ctx.socket.authorized,
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' && certificate(ctx).subjectAltName === `DNS:${expected}`,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      getResourceServerInfo(_, resource) {
        const known = resources[resource];
        if (!known) throw new errors.InvalidTarget();
        return { scope: 'orders.read orders.write', audience: resource, ...known };
      },
    },
    revocation: { enabled: true },
  },
  jwks: { keys: [{ ...rsa, alg: 'RS256', use: 'sig' }] },
  scopes: ['orders.read', 'orders.write'],
});
plain.on('request', provider.callback());
tls.on('request', provider.callback());

const api = await listen(http.createServer(async (request, response) => {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const { active, scope = '' } = await fetch(`${issuer}/token/introspection`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`api:${encodeURIComponent(SECRET)}`)}` },
    body: new URLSearchParams({ token }),
  }).then((answer) => answer.json());
  const needed = request.url === '/admin' ? 'orders.write' : 'orders.read';
  if (!active) {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' });
  } else if (!scope.split(' ').includes(needed)) {
    response.writeHead(403, { 'www-authenticate': `Bearer error="insufficient_scope", scope="${needed}"` });
  }
  response.end();
}));

publish({ issuer, api, mutual_tls_token_endpoint: `${mutual}/token` });
