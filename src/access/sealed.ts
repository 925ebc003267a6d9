import { open, type PersonKey, UnsealError } from './people.ts';

const SEALED = /^sealed(?:-json)?:v1:/;

/**
 * Opens every sealed text in a value, however deep; what was sealed as JSON is a value again, into which nobody looks
 * further: it is what the person wrote. A text that only looks sealed, or is another's, is given back as it is.
 */
export function openDeep(person: PersonKey, value: unknown): unknown {
  return mapSealed(value, (text) => {
    try {
      return open(person, text);
    } catch (error) {
      if (error instanceof UnsealError) return text;
      throw error;
    }
  });
}

/** Puts something in the place of every sealed text: what nobody can open any more. */
export function mapSealed(value: unknown, replaced: (text: string) => unknown): unknown {
  if (typeof value === 'string') return SEALED.test(value) ? replaced(value) : value;
  if (Array.isArray(value)) return value.map((item) => mapSealed(item, replaced));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapSealed(item, replaced)]));
}

export function holdsSealed(value: unknown): boolean {
  if (typeof value === 'string') return SEALED.test(value);
  if (typeof value !== 'object' || value === null) return false;
  return Object.values(value).some(holdsSealed);
}
