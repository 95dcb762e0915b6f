import { it } from 'vitest';
import { images } from '../../prove/images.ts';
import { expectAllGood } from './run-small.ts';

it('images', () => expectAllGood(images), 3_600_000);
