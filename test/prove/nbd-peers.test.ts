import { it } from 'vitest';
import { nbdPeers } from '../../prove/nbd-peers.ts';
import { expectAllGood } from './run-small.ts';

it('nbd-peers', () => expectAllGood(nbdPeers), 3_600_000);
