// Reads the fields of an object that came from outside, each with its type; collects nothing, throws at the first that does not fit.

/** Thrown for a field that is missing or of another type; the caller wraps it in the error of its file. */
export class FieldError extends Error {
  override readonly name = 'FieldError';
}

export type Fields = Readonly<Record<string, unknown>>;

export function textField(fields: Fields, name: string, pattern?: RegExp): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new FieldError(`${name} is not a text`);
  if (pattern && !pattern.test(value)) throw new FieldError(`${name} is not allowed to be "${value.slice(0, 100)}"`);
  return value;
}

export function nullableText(fields: Fields, name: string, pattern?: RegExp): string | null {
  return fields[name] === null ? null : textField(fields, name, pattern);
}

export function numberField(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0)
    throw new FieldError(`${name} is not a number of bytes or things`);
  return value;
}

export function objectField(fields: Fields, name: string): Fields {
  const value = fields[name];
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new FieldError(`${name} is not an object`);
  return value as Fields;
}

export function choiceField<Choice extends string>(fields: Fields, name: string, choices: readonly Choice[]): Choice {
  const value = fields[name];
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw new FieldError(`${name} is not one of ${choices.join(', ')}`);
  return found;
}
