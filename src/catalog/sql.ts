// Statements as values: text and parameters that cannot be mixed up.
// It must not know tables or dialects.

import type { Sql, SqlValue } from './catalog.ts';

const EMPTY: Sql = { sql: '', parameters: [] };

/** A statement or a part of one. Values become parameters, parts are spliced in. */
export function sql(texts: TemplateStringsArray, ...values: readonly (SqlValue | Sql)[]): Sql {
  let text = texts[0] ?? '';
  const parameters: SqlValue[] = [];
  values.forEach((value, index) => {
    if (typeof value === 'object' && value !== null) {
      text += value.sql;
      parameters.push(...value.parameters);
    } else {
      text += '?';
      parameters.push(value);
    }
    text += texts[index + 1] ?? '';
  });
  return { sql: text, parameters };
}

/** Text that stands in our own code (names of tables and columns), never anything that came from outside. */
export function literal(text: string): Sql {
  return { sql: text, parameters: [] };
}

export function join(parts: readonly Sql[], separator: ', ' | ' and '): Sql {
  return { sql: parts.map((part) => part.sql).join(separator), parameters: parts.flatMap((part) => part.parameters) };
}

/** `where a and b`, without those that are undefined; nothing when none is left. */
export function where(conditions: readonly (Sql | undefined)[]): Sql {
  const given = conditions.filter((condition) => condition !== undefined);
  return given.length === 0 ? EMPTY : sql`where ${join(given, ' and ')}`;
}

/** `(?, ?, ?)` for `in`. */
export function list(values: readonly SqlValue[]): Sql {
  return sql`(${join(
    values.map((value) => sql`${value}`),
    ', ',
  )})`;
}
