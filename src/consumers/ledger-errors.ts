/**
 * The ledger and the log tell different histories of a partition: another event at the same seq, or a stream
 * whose versions don't continue. The partition's ledger stops; an operator has to decide (`millrace recover`).
 */
export class LedgerForkError extends Error {
  override readonly name = 'LedgerForkError';
}
