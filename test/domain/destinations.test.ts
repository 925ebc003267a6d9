import { describe, expect, test } from 'vitest';
import { destinationFault, parseDestination } from '../../src/domain/destinations.ts';

const allowing = (...patterns: string[]) =>
  patterns.map((pattern) => {
    const destination = parseDestination(pattern);
    if (!destination) throw new Error(`${pattern} is no destination`);
    return destination;
  });

describe('A destination', () => {
  test.each([
    ['api.example.com', 'https://api.example.com/hooks?x=1'],
    ['api.example.com', 'https://API.example.com./hooks'],
    ['api.example.com', 'https://api.example.com:443/'],
    ['*.example.org', 'https://a.example.org/'],
    ['*.example.org', 'https://a.b.example.org/'],
    ['*', 'https://anything.example/'],
    ['api.example.com:8443', 'https://api.example.com:8443/'],
    ['api.example.com:*', 'https://api.example.com:9000/'],
    ['http://localhost:*', 'http://localhost:8080/'],
    ['http://127.0.0.1:*', 'http://0x7f.1:8080/'],
    ['https://[2001:db8::1]', 'https://[2001:DB8:0::1]/'],
  ])('%s allows %s', (pattern, url) => {
    expect(destinationFault(allowing(pattern), url)).toBeUndefined();
  });

  test.each([
    ['api.example.com', 'https://example.com/'],
    ['api.example.com', 'https://api.example.com.evil.example/'],
    ['api.example.com', 'http://api.example.com/'],
    ['api.example.com', 'https://api.example.com:22/'],
    ['api.example.com', 'https://api.example.com@evil.example/'],
    ['api.example.com', 'https://evil.example/#api.example.com'],
    ['*.example.org', 'https://example.org/'],
    ['*.example.org', 'https://notexample.org/'],
    ['*', 'http://anything.example/'],
    ['*', 'https://anything.example:8443/'],
    ['*', 'ftp://anything.example/'],
    ['*', 'file:///etc/passwd'],
    ['*', 'https://user:password@anything.example/'],
    ['*', '/v1/jobs'],
    ['*', `https://a.example/${'x'.repeat(2048)}`],
  ])('%s does not allow %s', (pattern, url) => {
    expect(destinationFault(allowing(pattern), url)).toBeTypeOf('string');
  });

  test.each(['', 'https://', 'ftp://a', 'a b', 'a/b', 'a:b', 'a:999999', '*.*.example', 'user@a'])(
    'is not what "%s" spells',
    (pattern) => expect(parseDestination(pattern)).toBeUndefined(),
  );

  test('is none where none is allowed', () => {
    expect(destinationFault([], 'https://api.example.com/')).toMatch(/allows no destinations/);
  });
});
