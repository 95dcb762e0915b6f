// The list of campaigns: `npm run prove` runs them in this order.

import type { Campaign } from './campaign.ts';
import { concurrency } from './concurrency.ts';
import { databaseFaults } from './database-faults.ts';
import { embeddedFaults } from './embedded-faults.ts';
import { faults } from './faults.ts';
import { fullDisk } from './full-disk.ts';
import { imageBombs } from './image-bombs.ts';
import { imageNames } from './image-names.ts';
import { images } from './images.ts';
import { kills } from './kills.ts';
import { nbdPeers } from './nbd-peers.ts';
import { objectFaults } from './object-faults.ts';
import { power } from './power.ts';
import { rot } from './rot.ts';
import { systemFaults } from './system-faults.ts';
import { truth } from './truth.ts';

export const CAMPAIGNS: readonly Campaign[] = [
  kills,
  concurrency,
  faults,
  fullDisk,
  systemFaults,
  databaseFaults,
  embeddedFaults,
  objectFaults,
  images,
  power,
  rot,
  truth,
  imageBombs,
  imageNames,
  nbdPeers,
];
