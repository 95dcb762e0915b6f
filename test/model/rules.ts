// The rules of backup, delete, merge, recovery and reading that the model obeys, each of which can be switched off.
// No rule without need: the test switches each one off and expects a story that then goes wrong.

export const RULES = [
  // What is stored, and the hashes over it.
  'paddedRanges', // a range hash covers a whole range, zero beyond the end of the disk
  'comparesWithWhatReads', // stored is what differs from what the parent reads as, an explicit zero counting as zero
  'zerosStay', // a merge drops zero entries only where the result is a full
  'boundToParent', // a reader compares the parent's content root with the one the child was made on
  // The order of steps.
  'sidecarLast', // a backup's sidecar is put after its image and digests
  'sidecarFirst', // a removal begins with the sidecar
  'journalBeforeImage', // the journal lies there before the image is replaced
  'imageBeforeSidecar', // a merge replaces the image before the sidecar
  'imageBeforeRemoval', // merged backups are removed after the child has its new image and sidecar
  'newestFirst', // merged backups are removed from the newest to the oldest
  'rowsBeforeJournal', // the catalog is brought up to date before the journal goes
  'rowSaysDeleting', // the catalog says that a backup is being deleted before its sidecar goes
  // Reading.
  'readerAsksJournal', // where sidecar and image differ in generation, the journal of the image's generation is asked
  'readerTriesAgain', // what does not fit is read again when something changed meanwhile
  // Recovery and its limits.
  'recoverFirst', // every writer settles what lies unfinished before it plans
  'fenceFirst', // recovery makes staged images impossible to finish before it looks
  'stopsWhenUnsure', // recovery drops a merge only when it sees the old image, else it stops
  'knowsTheImage', // recovery tells old and new image by the digest of their structure, not by a number alone
  'freshGeneration', // a generation is never used twice for one backup
  'sidecarIfMatch', // a merge replaces a sidecar only if it is still the one it read
  'claimsTheSidecar', // an unfinished backup is given up by taking its sidecar's name
  'sidecarMeansCompleted', // recovery looks for the sidecar before it calls a backup failed
  // Caution.
  'noDependents', // a backup with children is not deleted
  'knowsAllChildren', // nothing is merged, deleted or swept while a sidecar is unreadable or missing
  'looksForChildrenAgain', // a merge keeps what got another child before it was removed
  'copyChecks', // a merge compares every cluster that it copies with its digest
] as const;

export type Rule = (typeof RULES)[number];
export type Rules = ReadonlySet<Rule>;

export const ALL_RULES: Rules = new Set(RULES);

export function without(rule: Rule): Rules {
  return new Set(RULES.filter((each) => each !== rule));
}
