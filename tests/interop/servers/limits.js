// Rate limiters: five requests in ten seconds, for each path by itself.
import fastifyLimit from '@fastify/rate-limit';
import Hapi from '@hapi/hapi';
import { createAdaptorServer } from '@hono/node-server';
import express from 'express';
import { rateLimit } from 'express-rate-limit';
import fastify from 'fastify';
import hapiLimit from 'hapi-rate-limit';
import { Hono } from 'hono';
import { rateLimiter } from 'hono-rate-limiter';
import http from 'node:http';
import Koa from 'koa';
import koaLimit from 'koa-ratelimit';
import { RateLimiterMemory } from 'rate-limiter-flexible';

import { listen, publish } from './lib.js';

const LIMIT = 5;
const WINDOW = 10_000;

/** An express application behind `limiters`. */
function behind(...limiters) {
  const app = express();
  app.use(...limiters);
  app.use((_, response) => response.send('[]'));
  return listen(http.createServer(app));
}

function expressLimit(options) {
  const keyGenerator = (request) => request.path;
  return rateLimit({ limit: LIMIT, windowMs: WINDOW, legacyHeaders: false, keyGenerator, ...options });
}

// As its README has it.
async function flexible(request, response, next) {
  const answer = await flexible.limiter.consume(request.path).catch((refusal) => refusal);
  response.set({
    'Retry-After': answer.msBeforeNext / 1000,
    'X-RateLimit-Limit': LIMIT,
    'X-RateLimit-Remaining': answer.remainingPoints,
    'X-RateLimit-Reset': Math.ceil((Date.now() + answer.msBeforeNext) / 1000),
  });
  return answer.consumedPoints > LIMIT ? response.status(429).end() : next();
}
flexible.limiter = new RateLimiterMemory({ points: LIMIT, duration: WINDOW / 1000 });

async function underFastify() {
  const app = fastify();
  await app.register(fastifyLimit, { max: LIMIT, timeWindow: WINDOW, keyGenerator: (request) => request.url });
  app.get('/:path', () => []);
  return app.listen({ host: '127.0.0.1', port: 0 });
}

async function underHapi() {
  const server = Hapi.server({ host: '127.0.0.1', port: 0 });
  const pathCache = { expiresIn: WINDOW };
  await server.register({ plugin: hapiLimit, options: { userLimit: false, pathLimit: LIMIT, pathCache } });
  server.route({ method: 'GET', path: '/{path}', handler: () => [] });
  await server.start();
  return server.info.uri;
}

function underHono(standardHeaders) {
  const app = new Hono();
  const keyGenerator = (c) => c.req.path;
  app.use(rateLimiter({ windowMs: WINDOW, limit: LIMIT, standardHeaders, keyGenerator }));
  app.get('/:path', (c) => c.json([]));
  return listen(createAdaptorServer({ fetch: app.fetch }));
}

function underKoa() {
  const app = new Koa();
  app.use(koaLimit({ driver: 'memory', db: new Map(), duration: WINDOW, max: LIMIT, id: (ctx) => ctx.path }));
  app.use((ctx) => { ctx.body = []; });
  return listen(http.createServer(app.callback()));
}

const twoPolicies = [
  expressLimit({ standardHeaders: 'draft-8', identifier: 'burst' }),
  expressLimit({ standardHeaders: 'draft-8', identifier: 'sustained', limit: 8, windowMs: 2 * WINDOW }),
];
publish({
  'express-rate-limit, legacy': await behind(expressLimit({ legacyHeaders: true, standardHeaders: false })),
  'express-rate-limit, draft-6': await behind(expressLimit({ standardHeaders: 'draft-6' })),
  'express-rate-limit, draft-7': await behind(expressLimit({ standardHeaders: 'draft-7' })),
  'express-rate-limit, draft-8': await behind(expressLimit({ standardHeaders: 'draft-8' })),
  'express-rate-limit, draft-8, two policies': await behind(...twoPolicies),
  'rate-limiter-flexible': await behind(flexible),
  '@fastify/rate-limit': await underFastify(),
  'hono-rate-limiter, draft-6': await underHono('draft-6'),
  'hono-rate-limiter, draft-7': await underHono('draft-7'),
  'koa-ratelimit': await underKoa(),
  'hapi-rate-limit': await underHapi(),
});
