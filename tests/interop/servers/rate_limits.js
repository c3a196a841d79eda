// A rate limit service for Envoy (envoy.service.ratelimit.v3) that lets five requests pass in ten seconds. Its answer is
// a message of one member, so that it needs no library: `overall_code`, 1 for OK and 2 for OVER_LIMIT.
import http2 from 'node:http2';

import { listen, publish } from './lib.js';

const LIMIT = 5;
const WINDOW = 10_000;
const frame = (code) => Buffer.from([0, 0, 0, 0, 2, 0x08, code]);

let window = { began: 0, left: 0 };
function code() {
  const now = Date.now();
  if (now - window.began >= WINDOW) window = { began: now, left: LIMIT };
  if (window.left === 0) return 2;
  window.left -= 1;
  return 1;
}

const server = http2.createServer();
server.on('stream', (stream) => {
  stream.on('error', () => {});
  stream.resume();
  stream.on('end', () => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(frame(code()));
  });
});

publish({ service: await listen(server) });
