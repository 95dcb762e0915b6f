// Opens Chainkeep for one command and closes it again. The rooms below are loaded here, not when the program starts.

import type { App, AppOptions, JobWatch } from '../app-interface.ts';
import { systemClock } from '../plumbing/clock.ts';
import { Secret } from '../plumbing/secret.ts';
import type { CliContext } from './cli-context.ts';
import { databasePassword } from './database-password.ts';
import { openInterruption } from './interruption.ts';
import { ProgressDisplay } from './progress.ts';
import { safeText } from './safe-text.ts';

/** Runs `use` with an open App; the App is closed whatever happens. */
export async function withApp<Answer>(context: CliContext, use: (app: App) => Promise<Answer>): Promise<Answer> {
  const { openApp } = await import('../app.ts');
  const { home, databaseUrl } = context;
  const app = await openApp({ home, ...(databaseUrl !== undefined && { databaseUrl }), ...databasePassword(), ...keyFromOutside() });
  try {
    return await use(app);
  } finally {
    await app.close();
  }
}

let keyOfEnvironment: Secret | undefined;

/** The key leaves the environment of this process: no program that it starts inherits it. */
function keyFromOutside(): Pick<AppOptions, 'key' | 'keyFile' | 'credentialsDirectory'> {
  const { CHAINKEEP_KEY: key, CHAINKEEP_KEY_FILE: keyFile, CREDENTIALS_DIRECTORY: credentialsDirectory } = process.env;
  if (key) keyOfEnvironment = new Secret(key);
  delete process.env.CHAINKEEP_KEY;
  return {
    ...(keyOfEnvironment && { key: keyOfEnvironment }),
    ...(keyFile && { keyFile }),
    ...(credentialsDirectory && { credentialsDirectory }),
  };
}

/** Like `withApp` for a job: it can be interrupted, its progress and notices are shown on stderr. */
export async function withJob<Answer>(context: CliContext, run: (app: App, watch: JobWatch) => Promise<Answer>): Promise<Answer> {
  return withWatch(context, (watch) => withApp(context, (app) => run(app, watch)));
}

/** The watch alone, for work that needs no App (the `image` commands). */
export async function withWatch<Answer>(context: CliContext, run: (watch: JobWatch) => Promise<Answer>): Promise<Answer> {
  const progress = context.quiet ? undefined : new ProgressDisplay(process.stderr, systemClock);
  const say = (line: string): void => {
    progress?.clear();
    process.stderr.write(`${line}\n`);
  };
  const interruption = openInterruption(() => say('stopping cleanly … (once more to stop at once)'));
  try {
    return await run({
      signal: interruption.signal,
      onProgress: (state) => progress?.update(state),
      onStep: (step) => progress?.step(step),
      onNotice: (message) => say(`note: ${safeText(message)}`),
    });
  } finally {
    progress?.clear();
    interruption.close();
  }
}
