import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox';
import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';

/**
 * Bodies are taken as they are. Paths, queries and headers arrive as text, of which only that becomes a number
 * or a boolean which is one: TypeBox's own conversion would make 1 of `?limit=1.5`, and 1 of `?limit=1&limit=2`.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = (route) => {
  if (route.httpPart === 'body') return TypeBoxValidatorCompiler(route);
  const validator = Compile(route.schema);
  const readers = readersOf(route.schema);
  return (value) => {
    const converted = convert(readers, value);
    return validator.Check(converted) ? { value: converted } : { error: validator.Errors(converted) };
  };
};

type Reader = (text: string) => unknown;

function readersOf(schema: object): [string, Reader][] {
  const properties =
    'properties' in schema && typeof schema.properties === 'object' ? schema.properties : undefined;
  return Object.entries(properties ?? {}).flatMap(([name, property]): [string, Reader][] => {
    const reader = readerOf(property);
    return reader ? [[name, reader]] : [];
  });
}

function readerOf(property: unknown): Reader | undefined {
  const type =
    typeof property === 'object' && property !== null && 'type' in property ? property.type : undefined;
  if (type === 'integer' || type === 'number') {
    return (text) => (/^-?\d{1,15}(\.\d{1,15})?$/.test(text) ? Number(text) : text);
  }
  if (type === 'boolean') return (text) => (text === 'true' ? true : text === 'false' ? false : text);
  return undefined;
}

function convert(readers: readonly [string, Reader][], value: unknown): unknown {
  if (readers.length === 0 || typeof value !== 'object' || value === null) return value;
  const converted: Record<string, unknown> = { ...value };
  for (const [name, read] of readers) {
    const text = converted[name];
    if (typeof text === 'string') converted[name] = read(text);
  }
  return converted;
}
