import { describe, expect, test } from 'vitest';
import { addressCheck, checkedAddresses } from '../../../src/consumers/http-request/addresses.ts';

const never = new AbortController().signal;

describe('Requests are not sent', () => {
  const allows = addressCheck([]);
  test.each([
    '0.0.0.0', // this network
    '0.1.2.3',
    '10.0.0.1',
    '100.64.0.1', // carrier NAT
    '127.0.0.1',
    '127.255.255.254',
    '168.63.129.16', // public by its range: the agent's host of Azure
    '169.254.169.254', // cloud metadata
    '172.16.0.1',
    '172.31.255.255',
    '192.0.0.8',
    '192.0.2.1', // documentation
    '192.168.1.1',
    '198.18.0.1', // benchmarks
    '224.0.0.1', // multicast
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::127.0.0.1', // IPv4-compatible
    '::ffff:127.0.0.1', // IPv4-mapped
    '::ffff:a9fe:a9fe',
    '::ffff:168.63.129.16',
    '::ffff:0:127.0.0.1', // translated
    '64:ff9b::10.0.0.1', // NAT64 of a private address
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::1', // local NAT64
    '100::1', // discard
    '2001::1', // Teredo
    '2001:db8::1', // documentation
    '2002:7f00:1::', // 6to4
    '3fff::1', // documentation
    'fc00::1', // unique local
    'fd12:3456::1',
    'fe80::1', // link-local
    'fe80::1%eth0',
    'fec0::1', // site-local, as it was
    'ff02::1', // multicast
    'localhost',
    '',
  ])('to %s', (address) => expect(allows(address)).toBe(false));

  test.each(['93.184.216.34', '8.8.8.8', '2606:4700::1111', '64:ff9b::8.8.8.8', '::ffff:8.8.8.8'])(
    'but to %s',
    (address) => expect(allows(address)).toBe(true),
  );

  test.each([
    'http://127.0.0.1/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://0177.0.0.1/',
    'http://127.1/',
    'http://0/',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[0:0:0:0:0:ffff:7f00:1]/',
    'http://[::ffff:a9fe:a9fe]/latest/meta-data',
    'http://①②⑦.0.0.1/',
    'http://localhost/',
  ])('to %s, whatever its spelling', async (url) => {
    await expect(checkedAddresses(new URL(url).hostname, allows, never)).rejects.toMatchObject({
      name: 'AddressRefusedError',
    });
  });
});

test('Private networks that are named may be reached, and nothing beside them', async () => {
  const allows = addressCheck(['127.0.0.0/8', 'fd00:1::/32']);
  expect(['127.0.0.1', '::ffff:127.0.0.1', 'fd00:1::5'].map(allows)).toEqual([true, true, true]);
  expect(['10.0.0.1', '::1', 'fd00:2::5'].map(allows)).toEqual([false, false, false]);
  expect(await checkedAddresses('127.1.2.3', allows, never)).toEqual([{ address: '127.1.2.3', family: 4 }]);
});
