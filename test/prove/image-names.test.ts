import { it } from 'vitest';
import { imageNames } from '../../prove/image-names.ts';
import { expectAllGood } from './run-small.ts';

it('image-names', () => expectAllGood(imageNames), 3_600_000);
