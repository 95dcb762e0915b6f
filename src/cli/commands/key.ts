// `key`: the key that protects secrets.

import { Command } from 'commander';
import type { KeyRotation } from '../../app-interface.ts';
import { cliContext, printDone } from '../cli-context.ts';
import { safeText } from '../safe-text.ts';
import { withApp } from '../with-app.ts';

export function keyCommand(): Command {
  return new Command('key').description('the key that protects secrets').addCommand(rotateCommand());
}

function rotateCommand(): Command {
  return new Command('rotate')
    .description('make a new key and encrypt all secrets with it')
    .option('--forget-unreadable', 'remove secrets whose key is lost; they must be given again')
    .action(async (options: { readonly forgetUnreadable?: boolean }, command: Command) => {
      const context = cliContext(command);
      const rotation = await withApp(context, (app) => app.rotateKey({ forget_unreadable: options.forgetUnreadable ?? false }));
      printDone(context, rotation, () => safeText(describe(rotation)).concat('\n'));
    });
}

function describe({ secrets, forgotten, key_id: id, key_place: place, remove_old_key: fixed }: KeyRotation): string {
  const gone = forgotten > 0 ? `; ${forgotten} could not be read and ${forgotten === 1 ? 'was' : 'were'} removed` : '';
  const next = fixed ? `take the old key away from ${place}` : `it lies in ${place}: keep a copy of it apart from the database`;
  return `${secrets} ${secrets === 1 ? 'secret is' : 'secrets are'} encrypted with the key ${id}${gone}; ${next}`;
}
