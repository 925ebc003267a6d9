/**
 * Where an installation lets its jobs send requests: `api.example.com`, `*.example.org`, `api.example.com:8443`,
 * `http://localhost:*`, `*`. Without a scheme it is https, without a port the scheme's own.
 */
export type Destination = {
  readonly protocol: 'http:' | 'https:';
  /** In lower case; may begin with `*.`, or be `*`. */
  readonly host: string;
  /** Digits, or `*`. */
  readonly port: string;
};

export const MAX_URL_LENGTH = 2048;

const PATTERN = /^(https?:\/\/)?(\*|(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(\d{1,5}|\*))?$/i;
const PORTS = { 'http:': '80', 'https:': '443' };

/** Undefined: it is no destination as above. */
export function parseDestination(text: string): Destination | undefined {
  const [, scheme = 'https://', host, port] = PATTERN.exec(text) ?? [];
  if (host === undefined) return undefined;
  const protocol = scheme.toLowerCase() === 'http://' ? 'http:' : 'https:';
  return { protocol, host: host.toLowerCase(), port: port ?? PORTS[protocol] };
}

/** What keeps a job from sending a request to a URL here, for whoever asked for it; undefined: nothing. */
export function destinationFault(allowed: readonly Destination[], text: string): string | undefined {
  const url = text.length <= MAX_URL_LENGTH && URL.canParse(text) ? new URL(text) : undefined;
  if (!url) return 'is no absolute URL';
  const { protocol } = url;
  if (protocol !== 'https:' && protocol !== 'http:') return 'is neither https nor http';
  if (url.username !== '' || url.password !== '') return 'holds credentials, which belong in a header';
  if (allowed.length === 0) return 'leads outside, and this installation allows no destinations';
  // The parser has brought every spelling of a host into one, numbers and escapes included.
  const host = url.hostname.replace(/\.$/, '');
  const port = url.port || PORTS[protocol];
  const matches = allowed.some(
    (each) =>
      each.protocol === protocol &&
      (each.port === '*' || each.port === port) &&
      (each.host === '*' ||
        each.host === host ||
        (each.host.startsWith('*.') && host.endsWith(each.host.slice(1)))),
  );
  return matches ? undefined : 'is not among the destinations that this installation allows';
}
