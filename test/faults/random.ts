/** Numbers that follow from a seed, and from nothing else. */
export type Random = {
  /** 0 ≤ n < 1 */
  next(): number;
  /** A whole number, both ends included. */
  between(low: number, high: number): number;
  chance(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
  shuffled<T>(of: readonly T[]): T[];
};

/** Sfc32, seeded by a hash of the texts: another purpose under the same seed gives other numbers. */
export function randomOf(seed: number, ...purpose: readonly (string | number)[]): Random {
  let [a, b, c, d] = hashed(`${seed}/${purpose.join('/')}`);
  const next = () => {
    const sum = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let warm = 0; warm < 12; warm++) next();
  const between = (low: number, high: number) => low + Math.floor(next() * (high - low + 1));
  const pick = <T>(from: readonly T[]): T => {
    const picked = from[between(0, from.length - 1)];
    if (picked === undefined) throw new Error('there is nothing to pick from');
    return picked;
  };
  return {
    next,
    between,
    pick,
    chance: (probability) => next() < probability,
    shuffled(of) {
      const left = [...of];
      return Array.from(of, () => left.splice(between(0, left.length - 1), 1)).flat();
    },
  };
}

/** FNV-1a, four times with other beginnings. */
function hashed(text: string): [number, number, number, number] {
  const of = (start: number) => {
    let hash = start;
    for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
    return hash | 0;
  };
  return [of(0x811c9dc5), of(0x01234567), of(0x89abcdef), of(0x3c6ef372)];
}
