// Small JSON files: what a start leaves for the next one.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

/**
 * @param {string} file
 * @returns {Record<string, unknown>} {} when it is missing or broken: a start must get by without it
 */
export function readRecord(file) {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8'));
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
}

/**
 * Whole or not at all: a reader never finds half a file.
 * @param {string} file
 * @param {Record<string, unknown>} value
 */
export function writeRecord(file, value) {
  const draft = `${file}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, file);
}

/**
 * @param {Record<string, unknown>} record
 * @param {string} name
 * @returns {number | undefined}
 */
export function numberIn(record, name) {
  const value = record[name];
  return typeof value === 'number' ? value : undefined;
}

/**
 * @param {Record<string, unknown>} record
 * @param {string} name
 * @returns {string | undefined}
 */
export function stringIn(record, name) {
  const value = record[name];
  return typeof value === 'string' ? value : undefined;
}
