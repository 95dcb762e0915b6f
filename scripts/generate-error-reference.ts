// Writes docs/reference/errors.md from the list of error codes; `--check` for CI.

import { ERROR_CODES } from '../src/plumbing/errors.ts';
import { writePage } from './written-page.ts';

const rows = Object.entries(ERROR_CODES).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`);

writePage(
  'docs/reference/errors.md',
  `<!-- Made by scripts/generate-error-reference.ts; do not edit. -->

# Error codes

Every error has a stable code, one line that says what happened, and one line of advice. With \`--json\` a command that fails prints
\`{"success": false, "error": …, "error_code": …, "advice": …}\` and what is known of the place: ids, offsets, sizes. The exit code is 1, for \`USAGE\` it is 2.

| code | meaning |
| --- | --- |
${rows.join('\n')}
`,
);
