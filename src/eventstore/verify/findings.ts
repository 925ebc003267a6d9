/** Something that is not as it must be. `where` is a partition, a stream or a row; `detail` is for people. */
export type Finding = {
  readonly kind:
    | 'missing_event'
    | 'broken_chain'
    | 'unchained_event'
    | 'broken_archive'
    | 'version_gap'
    | 'wrong_head'
    | 'fork'
    | 'row_differs'
    | 'row_missing'
    | 'row_unfounded'
    | 'parked';
  readonly where: string;
  readonly detail: string;
};

/** All findings are counted, the first ones kept: a table that is wrong throughout must not fill the memory. */
export type Findings = {
  readonly add: (finding: Finding) => void;
  readonly count: () => number;
  readonly first: () => readonly Finding[];
};

export function collectFindings(keep = 100): Findings {
  const kept: Finding[] = [];
  let count = 0;
  return {
    add(finding) {
      count++;
      if (kept.length < keep) kept.push(finding);
    },
    count: () => count,
    first: () => kept,
  };
}
