// oidc-provider, which binds its tokens: to a key (RFC 9449), with and without required nonces, and to a certificate (RFC 8705).
// And APIs that check the binding: express-oauth2-jwt-bearer, and oauth4webapi, which compares each proof with one that the
// package `dpop` makes for the same request.
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';

import * as dpop from 'dpop';
import express from 'express';
import { auth } from 'express-oauth2-jwt-bearer';
import * as oauth from 'oauth4webapi';
import Provider, { errors } from 'oidc-provider';

import { fixture, listen, publish } from './lib.js';

const SECRET = 'a secret of more than thirty-two bytes';
const AUDIENCE = 'https://api.example/jwt';
const rsa = JSON.parse(fixture('keys/rsa.jwk'));
const tlsOptions = {
  cert: fixture('certificates/server.pem'),
  key: fixture('certificates/server.key'),
  ca: fixture('certificates/ca.pem'),
  requestCert: true,
  rejectUnauthorized: false,
};

/** Serves an issuer with these features on `server`. */
async function issue(server, scheme, features, client) {
  const issuer = await listen(server, scheme);
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'bound',
      client_secret: SECRET,
      token_endpoint_auth_method: 'client_secret_basic',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      scope: 'orders.read',
      ...client,
    }],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => AUDIENCE,
        getResourceServerInfo(_, resource) {
          if (resource !== AUDIENCE) throw new errors.InvalidTarget();
          return { scope: 'orders.read', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 3600 };
        },
      },
      ...features,
    },
    jwks: { keys: [{ ...rsa, alg: 'RS256', use: 'sig' }] },
    scopes: ['orders.read'],
  });
  server.on('request', provider.callback());
  return issuer;
}

const byKey = { dpop_bound_access_tokens: true };
const plain = await issue(http.createServer(), 'http', { dPoP: { enabled: true } }, byKey);
const nonces = await issue(http.createServer(), 'http', {
  dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
}, byKey);
const certified = await issue(https.createServer(tlsOptions), 'https', {
  mTLS: {
    enabled: true,
    certificateBoundAccessTokens: true,
    getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.(),
  },
}, { tls_client_certificate_bound_access_tokens: true });

/** An API of express-oauth2-jwt-bearer that accepts bound tokens only. */
async function expressApi(issuerBaseURL) {
  const app = express();
  app.use(auth({ issuerBaseURL, audience: AUDIENCE, dpop: { enabled: true, required: true } }));
  app.get(/.*/, (_, response) => response.send('[]'));
  app.use((error, _, response, next) => {
    if (!error.status) return next(error);
    return response.set(error.headers).status(error.status).end();
  });
  return listen(http.createServer(app));
}

const decode = (part) => JSON.parse(Buffer.from(part, 'base64url'));

/** Whether a proof says the same as one of the package `dpop`. */
async function compare(proof, url, method, nonce, token) {
  const keys = await dpop.generateKeyPair('ES256');
  const other = await dpop.generateProof(keys, url, method, nonce, token);
  const [[header, claims], [otherHeader, otherClaims]] = [proof, other].map((jwt) => jwt.split('.').slice(0, 2).map(decode));
  const names = (object) => Object.keys(object).sort().join();
  for (const [one, two] of [[header, otherHeader], [claims, otherClaims], [header.jwk, otherHeader.jwk]]) {
    if (names(one) !== names(two)) throw new Error(`members ${names(one)} instead of ${names(two)}`);
  }
  for (const name of ['htm', 'htu', 'ath', 'nonce']) {
    if (claims[name] !== otherClaims[name]) throw new Error(`${name} ${claims[name]} instead of ${otherClaims[name]}`);
  }
  for (const name of ['typ', 'alg']) {
    if (header[name] !== otherHeader[name]) throw new Error(`${name} ${header[name]}`);
  }
}

/** An API of oauth4webapi. It wants its current nonce, which it replaces after five requests, if `required`. */
async function webApi(issuer, required) {
  const seen = new Set();
  let [nonce, left] = [randomUUID(), 5];
  const as = { issuer, jwks_uri: `${issuer}/jwks` };
  let origin;
  const server = http.createServer(async (request, response) => {
    const url = `${origin}${request.url}`;
    try {
      const proof = request.headers.dpop;
      const claims = decode(proof.split('.')[1]);
      if (required && claims.nonce !== nonce) {
        response.writeHead(401, { 'www-authenticate': 'DPoP error="use_dpop_nonce"', 'dpop-nonce': nonce });
        return response.end();
      }
      const headers = { authorization: request.headers.authorization, dpop: proof };
      await oauth.validateJwtAccessToken(as, new Request(url, { method: request.method, headers }), AUDIENCE, {
        requireDPoP: true,
        [oauth.allowInsecureRequests]: true,
      });
      if (seen.has(claims.jti)) throw new Error('a jti was used twice');
      seen.add(claims.jti);
      const token = request.headers.authorization.replace('DPoP ', '');
      const target = new URL(url);
      target.search = '';
      await compare(proof, target.href, request.method, claims.nonce, token);
      left -= 1;
      if (required && left === 0) {
        [nonce, left] = [randomUUID(), 5];
        response.setHeader('dpop-nonce', nonce);
      }
    } catch (error) {
      console.error(error);
      response.writeHead(401, { 'www-authenticate': 'DPoP error="invalid_dpop_proof"' });
    }
    return response.end();
  });
  origin = await listen(server);
  return origin;
}

/** An API over TLS that compares the certificate with that of the token (RFC 8705 §3). */
const certificateApi = await listen(https.createServer(tlsOptions, async (request, response) => {
  try {
    const [, payload] = request.headers.authorization.split(' ')[1].split('.');
    const { iss, aud, cnf } = decode(payload);
    const hash = createHash('sha256').update(request.socket.getPeerX509Certificate().raw).digest('base64url');
    if (iss !== certified || aud !== AUDIENCE || cnf['x5t#S256'] !== hash) throw new Error('another certificate');
  } catch (error) {
    console.error(error);
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' });
  }
  response.end();
}), 'https');

publish({
  plain,
  nonces,
  certified,
  plain_express: await expressApi(plain),
  nonces_express: await expressApi(nonces),
  plain_web: await webApi(plain, false),
  nonces_web: await webApi(nonces, false),
  plain_web_nonces: await webApi(plain, true),
  nonces_web_nonces: await webApi(nonces, true),
  certificate_api: certificateApi,
});
