// What the folder of a self-test is called, for those who must not take it for something else.

/** Everything that a self-test writes lies below names that begin like this. */
export const SELF_TEST_PREFIX = '.chainkeep-test-';
