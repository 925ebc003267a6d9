import { readdirSync, readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { eventTypes } from '../src/domain/events.ts';

/** A feature has the same file name in every role; features of one role never import each other. */
const FEATURES = [
  'accounts',
  'sessions',
  'jobs',
  'exports',
  'erasures',
  'schedules',
  'queues',
  'groups',
  'replay',
  'dead-letters',
  'echo',
  'webhooks',
  'http-request',
  'notifier',
  'emails',
  'operations',
  'events',
  'rebuilds',
  'verifications',
];

/** Folders of `src` that a folder may import, besides itself. Everything but the domain may import telemetry. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  eventstore: ['domain', 'telemetry'],
  commands: ['domain', 'eventstore', 'telemetry'],
  projections: ['domain', 'eventstore', 'telemetry'],
  consumers: ['domain', 'eventstore', 'commands', 'projections', 'blobs', 'telemetry'],
  access: ['domain', 'telemetry'],
  http: ['domain', 'commands', 'projections', 'access', 'blobs', 'telemetry'],
  blobs: ['telemetry'],
  telemetry: [],
};

/** Packages that only these folders (or files of `src`) may import; `node:` stands for all of Node's modules. */
const ONLY_IN: Readonly<Record<string, readonly string[]>> = {
  ioredis: ['eventstore', 'consumers', 'access', 'app'],
  pg: ['eventstore', 'consumers', 'app'],
  kysely: ['eventstore', 'projections', 'consumers', 'access', 'app', 'cli'],
  bcrypt: ['access'],
  nodemailer: ['consumers'],
  'ipaddr.js': ['consumers'],
  pino: ['telemetry'],
  'prom-client': ['telemetry'],
  '@opentelemetry': ['telemetry'],
};

/** What projections keep to themselves: others ask their queries, and nothing writes but the runner. */
const PRIVATE_TO_PROJECTIONS = ['bulk.ts', 'fold.ts'];

/** The only makers of connections. */
const MAKERS = ['eventstore/connections.ts', 'eventstore/postgres.ts'];

type Source = { path: string; folder: string; code: string; imports: readonly string[] };

const root = join(import.meta.dirname, '..', 'src');
const sources = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.ts'))
  .map((path) => path.replaceAll('\\', '/'))
  .map((path): Source => {
    const code = withoutComments(readFileSync(join(root, path), 'utf8'));
    return { path, folder: path.split('/', 1)[0] ?? path, code, imports: importsOf(code) };
  });

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[\s;{},])\/\/.*$/gm, '$1');
}

/** Type imports too: a type that may not be known is a dependency like any other. */
function importsOf(code: string): string[] {
  const found = code.matchAll(
    /^(?:import|export)\s(?:[^'"`;]*?\sfrom\s)?\s*'([^']+)'|\bimport\(\s*'([^']+)'/gm,
  );
  return [...found].flatMap((match) => match[1] ?? match[2] ?? []);
}

/** What a source imports from `src`, as paths below it. */
function within({ path, imports }: Source): string[] {
  return imports
    .filter((target) => target.startsWith('.'))
    .map((target) => relative(root, join(root, dirname(path), target)).replaceAll('\\', '/'));
}

function packages({ imports }: Source): string[] {
  return imports
    .filter((target) => !target.startsWith('.'))
    .map((target) => {
      if (target.startsWith('node:') || builtinModules.includes(target)) return 'node:';
      const [scope, name] = target.split('/');
      return scope?.startsWith('@') && scope !== '@opentelemetry' ? `${scope}/${name}` : `${scope}`;
    });
}

/** Offences as lines to read, so that a failure names the file. */
function offences(find: (source: Source) => readonly string[]): string[] {
  return sources.flatMap((source) => find(source).map((offence) => `${source.path}: ${offence}`));
}

const featureOf = (path: string) => FEATURES.find((name) => path.split('/')[1]?.replace('.ts', '') === name);

describe('the architecture', () => {
  it('lets each role import only what stands below it', () => {
    const found = offences((source) => {
      const allowed = MAY_IMPORT[source.folder];
      if (!allowed) return [];
      return within(source).filter((target) => {
        const folder = target.split('/', 1)[0] ?? target;
        return folder !== source.folder && !allowed.includes(folder);
      });
    });
    expect(found).toEqual([]);
  });

  it('leaves the composition to app, and the table of contents to app and the outermost layers', () => {
    const outermost = ['main.ts', 'app', 'cli', 'features.ts'];
    const composition = ['features.ts', 'main.ts'];
    const found = offences((source) =>
      outermost.includes(source.folder)
        ? []
        : within(source).filter((to) => composition.includes(to) || to.startsWith('app/')),
    );
    expect(found).toEqual([]);
  });

  it('knows a folder by its rules', () => {
    const folders = new Set(sources.filter(({ path }) => path.includes('/')).map(({ folder }) => folder));
    expect(
      [...folders].filter((folder) => !['app', 'cli'].includes(folder) && !(folder in MAY_IMPORT)),
    ).toEqual([]);
  });

  it('keeps the domain pure: TypeBox and nothing else, not even Node', () => {
    const found = offences((source) =>
      source.folder === 'domain' ? packages(source).filter((name) => name !== 'typebox') : [],
    );
    expect(found).toEqual([]);
  });

  it('keeps each driver where it belongs', () => {
    const found = offences((source) =>
      packages(source).filter((name) => ONLY_IN[name] && !ONLY_IN[name].includes(source.folder)),
    );
    expect(found).toEqual([]);
  });

  it('gives projections Kysely and nothing else from outside', () => {
    const found = offences((source) =>
      source.folder === 'projections'
        ? packages(source).filter((name) => name !== 'kysely' && name !== 'node:')
        : [],
    );
    expect(found).toEqual([]);
  });

  it('keeps how read models are written out of sight of those who read them', () => {
    const found = offences((source) =>
      source.folder === 'projections'
        ? []
        : within(source).filter((to) => PRIVATE_TO_PROJECTIONS.some((file) => to === `projections/${file}`)),
    );
    expect(found).toEqual([]);
  });

  it('lets no feature know another feature of its own role', () => {
    const found = offences((source) => {
      const own = featureOf(source.path);
      if (!own || source.folder === 'domain') return [];
      return within(source).filter((target) => {
        const other = target.startsWith(`${source.folder}/`) ? featureOf(target) : undefined;
        return other !== undefined && other !== own;
      });
    });
    expect(found).toEqual([]);
  });

  it('makes connections in one place', () => {
    const found = offences(({ path, code }) =>
      MAKERS.includes(path)
        ? []
        : (code.match(/\bnew (?:\w+\.)?(?:Redis|Cluster|Pool|Client|Kysely)\(/g) ?? []),
    );
    expect(found).toEqual([]);
  });

  it('has no any, no suppressed error, nothing left to do', () => {
    const found = offences(({ path, code }) => {
      const text = readFileSync(join(root, path), 'utf8');
      return [
        ...(code.match(/(?::|\bas|<|,)\s*any\b(?!\()|\bany\[\]/g) ?? []),
        ...(text.match(/@ts-(?:ignore|expect-error|nocheck)|\b(?:TODO|FIXME|XXX)\b/g) ?? []),
      ];
    });
    expect(found).toEqual([]);
  });

  it('can read every event ever written: each type upcasts from its first schema to its newest', () => {
    for (const [type, { schema, upcast }] of Object.entries(eventTypes)) {
      const steps = Object.keys(upcast ?? {}).map(Number);
      expect([type, steps]).toEqual([type, Array.from({ length: schema - 1 }, (_, index) => index + 1)]);
    }
  });
});
