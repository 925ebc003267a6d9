import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates, type TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { send } from '../../../src/consumers/http-request/send.ts';
import { startReceiver } from '../../support/receiver.ts';

/** A name that no resolver knows: whoever gets anywhere with it has asked none. */
const NAME = 'hooks.invalid';

const to = (url: string) =>
  send({
    url: new URL(url),
    method: 'POST',
    headers: {},
    body: Buffer.from('{}'),
    addresses: [{ address: '127.0.0.1', family: 4 }],
    maxBytes: 1_000,
    signal: AbortSignal.timeout(5_000),
  });

test('A request goes to the address that was checked; no second resolution can lead it elsewhere', async () => {
  const { url, received } = await startReceiver();
  const { port } = new URL(url);
  expect((await to(`http://${NAME}:${port}/a`)).status).toBe(200);
  expect(received).toMatchObject([{ path: '/a', headers: { host: `${NAME}:${port}` } }]);
});

/** Node makes no certificates. */
const openssl = spawnSync('openssl', ['version']).status === 0;

test.runIf(openssl)('Over TLS the certificate must be of the name, and not of the address', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-tls-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const [key, cert] = ['key.pem', 'cert.pem'].map((file) => join(dir, file));
  if (!key || !cert) throw new Error('two files');
  const options = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const names = ['-subj', `/CN=${NAME}`, '-addext', `subjectAltName=DNS:${NAME}`];
  execFileSync('openssl', ['req', ...options, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' });

  const seen: unknown[] = [];
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (request, response) => {
    seen.push([request.headers.host, (request.socket as TLSSocket & { servername?: unknown }).servername]);
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;

  await expect(to(`https://${NAME}:${port}/`)).rejects.toMatchObject({ code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
  const trusted = getCACertificates('default');
  onTestFinished(() => setDefaultCACertificates(trusted));
  setDefaultCACertificates([...trusted, readFileSync(cert, 'utf8')]);
  expect((await to(`https://${NAME}:${port}/`)).status).toBe(200);
  expect(seen).toEqual([[`${NAME}:${port}`, NAME]]);
  await expect(to(`https://other.invalid:${port}/`)).rejects.toMatchObject({
    code: 'ERR_TLS_CERT_ALTNAME_INVALID',
  });
});
