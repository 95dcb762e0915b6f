// A value that nobody may read by accident: however it is printed, joined, logged or turned into JSON, it shows as REDACTED.
// It must never be compared, sorted or put into a context by its value; `reveal` is the one way to it, and easy to search for.

export const REDACTED = '[secret]';

// A class, though it opens nothing: only a private field is hidden from inspection, cloning and JSON alike.
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself: only for the call that needs it (a signature, a mount's standard input), never for a message. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [Symbol.toPrimitive](): string {
    return REDACTED;
  }

  /** For util.inspect, console and assertion messages. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return REDACTED;
  }
}
