// express-oauth2-jwt-bearer: an API that verifies the JWTs of the issuer whose file is named on the command line.
import express from 'express';
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer';
import { readFileSync } from 'node:fs';
import http from 'node:http';

import { listen, publish } from './lib.js';

const { issuer: issuerBaseURL } = JSON.parse(readFileSync(process.argv[3]));
const verify = (more) => auth({ issuerBaseURL, audience: 'https://api.example/jwt', clockTolerance: 0, ...more });

const app = express();
app.get('/orders', verify(), (_, response) => response.send('[]'));
app.get('/admin', verify(), requiredScopes('orders.write'), (_, response) => response.send('[]'));
// Refuses tokens that are older than 2 s, whatever their `exp`. (Without a tolerance it refuses those of this second, too.)
app.get('/strict', verify({ maxTokenAge: 1, clockTolerance: 1 }), (_, response) => response.send('[]'));
// Errors without their stack.
app.use((error, _, response, next) => {
  if (!error.status) return next(error);
  return response.set(error.headers).status(error.status).end();
});

publish({ api: await listen(http.createServer(app)) });
