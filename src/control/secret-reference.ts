// What stands in the configuration of a repository in the place of a secret.

/** `secret_id`: of a row of the table of secrets. */
export interface SecretReference {
  readonly secret_id: string;
}

export function isSecretReference(value: unknown): value is SecretReference {
  return typeof value === 'object' && value !== null && 'secret_id' in value && typeof value.secret_id === 'string';
}
