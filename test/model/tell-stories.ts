// Makes stories out of a seed, tells them, and cuts a story that went wrong down to what it needs.

import type { Rules } from './rules.ts';
import { DEEDS, type Deed, type Event, type Story, tellStory } from './story.ts';

/** Small and fast, the same everywhere: mulberry32. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

type Mix = readonly Deed[];

function mixOf(weights: Partial<Record<Deed, number>>): Mix {
  return DEEDS.flatMap((deed) => Array.from({ length: weights[deed] ?? 0 }, () => deed));
}

/** Three kinds of stories: much data, much dying, much damage. What is rare in one is common in another. */
const MIXES: readonly Mix[] = [
  mixOf({ write: 12, resize: 2, backup: 10, merge: 8, delete: 2, recover: 1, read: 2, forget: 1, damage: 1, repair: 1 }),
  mixOf({ write: 2, backup: 4, merge: 8, delete: 2, recover: 2, read: 4, land: 3, forget: 1 }),
  mixOf({ write: 2, resize: 1, backup: 4, merge: 6, delete: 2, recover: 1, forget: 1, damage: 5, repair: 2 }),
];

export function makeStory(seed: number): Story {
  const random = randomNumbers(seed);
  const mix = MIXES[seed % MIXES.length];
  const dying = mix === MIXES[0] ? 6 : 2;
  const event = (deed: Deed, calm: boolean): Event => ({
    deed,
    a: random(1000),
    b: random(3) === 0 ? 0 : random(1000),
    crash: !calm && random(dying) === 0 ? random(18) : -1,
    late: random(2) === 0,
    land: random(3) === 0 ? random(16) : -1,
    pace: random(3),
  });
  // Most disks are of one or two ranges: there things meet more often.
  const size = random(3) > 0 ? random(12) : random(48);
  const events: Event[] = [];
  for (let count = 1 + random(4); count > 0; count--) events.push(event('write', true), event('backup', true));
  for (let count = 4 + random(16); count > 0; count--) events.push(event(mix[random(mix.length)], false));
  return { size, events };
}

/** What goes wrong, or undefined. */
function faultOf(story: Story, rules: Rules): string | undefined {
  try {
    tellStory(story, rules);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** As long as it still goes wrong, in whatever way: fewer events, then simpler ones. */
function shorten(story: Story, rules: Rules): Story {
  let best = story;
  for (let progress = true; progress; ) {
    progress = false;
    for (const candidate of simpler(best)) {
      if (faultOf(candidate, rules) === undefined) continue;
      best = candidate;
      progress = true;
      break;
    }
  }
  return best;
}

function* simpler({ size, events }: Story): Generator<Story> {
  for (let length = events.length >> 1; length > 0; length >>= 1) {
    for (let at = 0; at + length <= events.length; at += length) yield { size, events: events.toSpliced(at, length) };
  }
  if (size > 1) yield { size: size >> 1, events };
  for (const [at, event] of events.entries()) {
    for (const change of simplerEvents(event)) yield { size, events: events.with(at, change) };
  }
}

function* simplerEvents(event: Event): Generator<Event> {
  if (event.crash >= 0) yield { ...event, crash: -1 };
  if (event.late && event.crash >= 0) yield { ...event, late: false };
  if (event.land >= 0) yield { ...event, land: -1 };
  if (event.pace > 0) yield { ...event, pace: 0 };
  for (const smaller of new Set([0, event.a >> 1, event.a - 1])) if (smaller >= 0 && smaller < event.a) yield { ...event, a: smaller };
  for (const smaller of new Set([0, event.b >> 1, event.b - 1])) if (smaller >= 0 && smaller < event.b) yield { ...event, b: smaller };
}

export interface Failure {
  readonly seed: number;
  /** What is left of the story. */
  readonly story: Story;
  /** Every event and step of the shortened story, and what went wrong. */
  readonly text: string;
}

/** Tells `count` stories, the first from `seed`; answers with the first that goes wrong. */
export function findFailure(rules: Rules, seed: number, count: number): Failure | undefined {
  for (let run = 0; run < count; run++) {
    const story = makeStory(seed + run);
    if (faultOf(story, rules) === undefined) continue;
    const short = shorten(story, rules);
    return { seed: seed + run, story: short, text: retell(short, rules) };
  }
  return undefined;
}

function retell(story: Story, rules: Rules): string {
  try {
    return tellStory(story, rules, true).join('\n');
  } catch (error) {
    return `disk of ${1 + (story.size % 48)} half clusters\n${error instanceof Error ? error.message : error}`;
  }
}
