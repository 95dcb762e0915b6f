// What a rescan counts and names. Every damage and every missing backup is told in the job log; the answer names the first of them.

import type { RescanOutcome } from '../../app-interface.ts';
import type { ChainkeepError } from '../../plumbing/errors.ts';
import type { Logger } from '../../plumbing/logger.ts';
import type { Report } from './reconcile.ts';

/** A repository that is lost as a whole must not fill the memory; the job log has them all. */
const MOST_NAMED = 1000;

export interface Settled {
  readonly backupId: string;
  /** Is there a sidecar that can be read? */
  readonly found: boolean;
  readonly report: Exclude<Report, 'if it differs'>;
  readonly damage: readonly ChainkeepError[];
}

type Counted = Omit<RescanOutcome, 'job_id' | 'repository' | 'repository_id' | 'read_only' | 'other_files' | 'other_names' | 'not_rebuilt'>;

export class RescanTally {
  readonly #readOnly: boolean;
  readonly #logger: Logger;
  readonly #counts = { found: 0, damaged: 0, nothing: 0, added: 0, changed: 0, missing: 0, 'in progress': 0 };
  readonly #damaged: { backup_id: string; code: string; message: string }[] = [];
  readonly #missing: string[] = [];

  /** `readOnly`: the repository belongs to another installation. */
  constructor(readOnly: boolean, logger: Logger) {
    this.#readOnly = readOnly;
    this.#logger = logger;
  }

  add({ backupId, found, report, damage }: Settled): void {
    if (found) this.#counts.found++;
    this.#counts[report]++;
    if (report === 'missing') {
      this.#logger.log('warn', `backup ${backupId} is missing: it is in the catalog and not in the repository`, { backup_id: backupId });
      if (this.#missing.length < MOST_NAMED) this.#missing.push(backupId);
    }
    if (damage.length > 0) this.#counts.damaged++;
    for (const { code, message } of damage) {
      this.#logger.log('warn', `backup ${backupId}: ${message}`, { code, backup_id: backupId });
      if (this.#damaged.length < MOST_NAMED) this.#damaged.push({ backup_id: backupId, code, message });
    }
  }

  outcome(): Counted {
    const { found, added, changed, damaged, missing } = this.#counts;
    const foreign = this.#readOnly ? found : 0;
    const named = { damaged_backups: this.#damaged, missing_backups: this.#missing };
    return { found, added, changed, damaged, foreign, missing, in_progress: this.#counts['in progress'], ...named };
  }
}
