// The list of campaigns: `npm run prove` runs them in this order.

import type { Campaign } from './campaign.ts';
import { faults } from './faults.ts';

export const CAMPAIGNS: readonly Campaign[] = [faults];
