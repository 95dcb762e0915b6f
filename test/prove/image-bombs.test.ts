import { it } from 'vitest';
import { imageBombs } from '../../prove/image-bombs.ts';
import { expectAllGood } from './run-small.ts';

it('image-bombs', () => expectAllGood(imageBombs), 3_600_000);
