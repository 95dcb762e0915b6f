// Stories that chance tells too rarely: each goes wrong without one rule, and well with all. How they were found: cut short from
// random ones. Steps count from the start of the process, its recovery included.

import type { Rule } from './rules.ts';
import type { Timing } from './scheduler.ts';
import type { Deed, Event, Story } from './story.ts';

function event(deed: Deed, a = 0, b = 0, timing: Partial<Timing> = {}): Event {
  return { crash: -1, late: false, land: -1, pace: 0, ...timing, deed, a, b };
}

const backup = event('backup');

/** A disk of one cluster. */
function story(...events: readonly Event[]): Story {
  return { size: 1, events };
}

export const HARD_STORIES: Partial<Record<Rule, Story>> = {
  // The journal is lost while image and sidecar differ; a differential is made on the full that was to be removed; the journal comes back.
  looksForChildrenAgain: story(backup, backup, event('merge', 1, 0, { crash: 5 }), event('damage', 3), event('backup', 3)),
  // The generation in the old image's header is damaged into that of the merge in progress.
  knowsTheImage: story(backup, backup, backup, event('merge', 494, 0, { crash: 4 }), event('damage', 766, 328), backup),
  // The old image vanishes for a while during a merge.
  stopsWhenUnsure: story(backup, backup, backup, backup, event('merge', 835, 0, { crash: 10 }), event('damage', 160), event('merge')),
  // A dropped merge's journal lands when its generation is in use for another.
  freshGeneration: story(backup, backup, backup, backup, event('merge', 411, 0, { crash: 3, late: true }), event('merge', 707, 61)),
  // A flipped cluster in the backup that is merged away.
  copyChecks: story(event('write', 0, 97), backup, event('damage', 1, 951), backup, event('merge', 29)),
};

/** Found while the model was made, and mended: here they must go well. */
export const OLD_TROUBLES: readonly { readonly name: string; readonly story: Story }[] = [
  {
    name: 'the late journal of a merge into a backup that another merge has just removed',
    story: story(
      ...[backup, backup, backup],
      event('merge', 1, 0, { crash: 3, late: true }),
      backup,
      event('merge', 114, 139, { crash: 11, land: 2 }),
    ),
  },
  {
    name: 'an older sidecar come back, which hides whose child a backup is',
    story: story(
      ...[backup, backup, backup, backup],
      ...[event('merge', 834), event('backup', 208), event('damage', 879, 836), event('merge', 3)],
    ),
  },
  {
    name: 'an image of another backup, of the generation that the sidecar expects',
    story: story(backup, backup, event('merge', 261, 0, { crash: 5 }), event('damage', 741, 462), backup),
  },
];
