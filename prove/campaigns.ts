// The list of campaigns: `npm run prove` runs them in this order.

import type { Campaign } from './campaign.ts';
import { faults } from './faults.ts';
import { images } from './images.ts';
import { power } from './power.ts';
import { truth } from './truth.ts';

export const CAMPAIGNS: readonly Campaign[] = [faults, truth, images];
