// What all servers here need: a free port of loopback, and a file that tells where they listen.
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Reads a file of `tests/`. */
export function fixture(path) {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
}

/** Listens on a free port and gives the origin. */
export async function listen(server, scheme = 'http') {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `${scheme}://127.0.0.1:${server.address().port}`;
}

/** Writes what the tests must know into the file named on the command line; its presence means that we are up. */
export function publish(addresses) {
  const file = process.argv[2];
  writeFileSync(`${file}.new`, JSON.stringify(addresses));
  renameSync(`${file}.new`, file);
}
