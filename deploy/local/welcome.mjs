import { relative } from 'node:path';
import { files, ROOT } from './paths.mjs';

/**
 * What a newcomer needs, in one box that can be copied from.
 * @param {object} about
 * @param {string} about.apiUrl
 * @param {boolean} about.hasApi
 * @param {import('./first-job.mjs').Login | undefined} about.login
 * @param {boolean} about.isNewLogin its password is shown this once
 * @param {readonly string[]} about.logs
 * @param {string | undefined} about.tracesTo
 * @param {number} about.seconds from the command to ready
 * @returns {string}
 */
export function welcome({ apiUrl, hasApi, login, isNewLogin, logs, tracesTo, seconds }) {
  const title = `── Millrace is running (ready in ${seconds.toFixed(1)} s) `;
  const json = `-H 'content-type: application/json'`;
  const where = relative(ROOT, files.login);
  const register = `'{"email":"you@example.com","password":"twelve letters or more","name":"You"}'`;
  const rows = [
    hasApi && ['API', apiUrl],
    hasApi && ['Docs', `${apiUrl}/docs`],
    login && [
      'Log-in',
      isNewLogin
        ? `${login.email}  ${login.password}  (kept in ${where})`
        : `${login.email}, password in ${where}`,
    ],
    hasApi && [
      'Try it',
      login
        ? `curl -s ${apiUrl}/v1/sessions ${json} -d '@${files.login}'`
        : `curl -s ${apiUrl}/v1/accounts ${json} -d ${register}`,
    ],
    [
      'Traces',
      tracesTo ?? 'nowhere yet: set OTEL_EXPORTER_OTLP_ENDPOINT (Jaeger listens on http://127.0.0.1:4318)',
    ],
    ['Logs', logs.map((log) => relative(ROOT, log)).join('  ')],
    ['Stop', 'Ctrl-C'],
  ].filter((row) => Array.isArray(row));
  const lines = rows.map(([name = '', text = '']) => `   ${name.padEnd(8)}${text}`);
  return ['', title.padEnd(78, '─'), ...lines, '─'.repeat(78)].join('\n');
}
