import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { untilAborted } from '../backoff.ts';

export type Address = { readonly address: string; readonly family: number };

/** Some address that a name has is none that a request may be sent to from here. */
export class AddressRefusedError extends Error {
  override readonly name = 'AddressRefusedError';
}

/** Says whether a request may be sent to an address. */
export type AddressCheck = (address: string) => boolean;

/** Globally routed unicast (RFC 4291, IANA): what is outside of it is of no use to anybody outside. */
const GLOBAL_V6 = ipaddr.parseCIDR('2000::/3');
/** Public by their range, and the machine's own cloud by what answers there. */
const OF_THE_CLOUD: ReadonlySet<string> = new Set([
  // Azure: its agent's host, with certificates and settings of the machine.
  '168.63.129.16',
]);

/**
 * Public addresses, and private ones that are named. Whatever IANA keeps for something special is refused: private,
 * loopback, link-local (cloud metadata), shared (carrier NAT), multicast, documentation, tunnels. An IPv4 address
 * that stands in an IPv6 one (mapped, NAT64) is judged as what it is.
 *
 * @param allowPrivate CIDRs, as `HTTP_REQUEST_ALLOW_PRIVATE` has them
 */
export function addressCheck(allowPrivate: readonly string[]): AddressCheck {
  const allowed = allowPrivate.map((cidr) => ipaddr.parseCIDR(cidr));
  return (text) => {
    if (text.includes('%') || !ipaddr.isValid(text)) return false;
    const address = embedded(ipaddr.parse(text));
    const named = allowed.some(
      ([network, bits]) => network.kind() === address.kind() && address.match(network, bits),
    );
    if (named) return true;
    if (address.range() !== 'unicast' || OF_THE_CLOUD.has(address.toString())) return false;
    return address.kind() === 'ipv4' || address.match(GLOBAL_V6);
  };
}

function embedded(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  if (!(address instanceof ipaddr.IPv6)) return address;
  if (address.isIPv4MappedAddress()) return address.toIPv4Address();
  // 64:ff9b::/96 (RFC 6052): a NAT64 gateway sends it on to these four bytes.
  return address.range() === 'rfc6052' ? new ipaddr.IPv4(address.toByteArray().slice(12)) : address;
}

/**
 * The addresses of a URL's host, all of them checked: to be connected to as they are, since a second resolution may
 * say something else. Throws `AddressRefusedError` where one of them is refused, or what the resolver throws.
 *
 * @param hostname as `URL` has it: numbers are an IPv4 address in its plain spelling by then
 */
export async function checkedAddresses(
  hostname: string,
  allows: AddressCheck,
  signal: AbortSignal,
): Promise<readonly Address[]> {
  const host = hostname.replace(/^\[|\]$/g, '');
  const family = isIP(host);
  const found = family
    ? [{ address: host, family }]
    : await untilAborted(lookup(host, { all: true }), signal);
  signal.throwIfAborted();
  if (!found || found.length === 0) throw new Error('the name has no address');
  if (!found.every(({ address }) => allows(address))) {
    throw new AddressRefusedError('the destination is at an address that requests may not be sent to');
  }
  return found;
}
