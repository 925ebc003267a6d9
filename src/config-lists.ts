import { isIP } from 'node:net';
import { type Destination, parseDestination } from './domain/destinations.ts';

/** The items of a comma-separated variable. */
export function listOf(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean);
}

export function destinationsOf(name: string, text: string, problems: string[]): Destination[] {
  return listOf(text).flatMap((item) => {
    const destination = parseDestination(item);
    if (destination) return [destination];
    problems.push(`${name}: "${item}" is no destination such as api.example.com, *.example.org or *`);
    return [];
  });
}

export function networksOf(name: string, text: string, problems: string[]): string[] {
  return listOf(text).filter((item) => {
    const [address = '', bits = '', ...rest] = item.split('/');
    const family = isIP(address);
    const known = rest.length === 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32);
    if (!family || !known) problems.push(`${name}: "${item}" is no network such as 10.1.0.0/16`);
    return family !== 0 && known;
  });
}
