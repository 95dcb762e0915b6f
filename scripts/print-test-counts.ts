// Prints the tests that failed and `N passed, N failed, N skipped` from vitest's JSON report: print-test-counts.ts REPORT.
// Exit code 1 when a test failed, or when none ran. What failed is told again here, since a log is often only kept by its end.

import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

/** Lines of a failure's message that are printed. */
const MESSAGE_LINES = 8;

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly TestFile[];
}

interface TestFile {
  readonly name: string;
  readonly status: string;
  /** Why the file as a whole failed, when no single test did. */
  readonly message: string;
  readonly assertionResults: readonly {
    readonly status: string;
    readonly fullName: string;
    readonly failureMessages: readonly string[] | null;
  }[];
}

function readReport(file: string): Report {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    console.error(`error: there is no report of the tests: ${error}`);
    return { numPassedTests: 0, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [] };
  }
}

function printFailure(title: string, message: string): void {
  console.log(`FAILED ${title}`);
  const lines = message.split('\n').filter((line) => !line.includes('/node_modules/'));
  for (const line of lines.slice(0, MESSAGE_LINES)) console.log(`    ${line}`);
}

/** Whether the file has something that failed. */
function printFailures(file: TestFile): boolean {
  const path = relative(process.cwd(), file.name);
  const failed = file.assertionResults.filter((test) => test.status === 'failed');
  for (const test of failed) printFailure(`${path} > ${test.fullName}`, (test.failureMessages ?? []).join('\n'));
  if (file.status === 'failed' && failed.length === 0) printFailure(path, file.message);
  return file.status === 'failed' || failed.length > 0;
}

const report = readReport(process.argv[2] ?? 'coverage/test-report.json');
const failedFiles = report.testResults.filter(printFailures);
console.log(`${report.numPassedTests} passed, ${report.numFailedTests} failed, ${report.numPendingTests + report.numTodoTests} skipped`);
process.exitCode = failedFiles.length === 0 && report.numFailedTests === 0 && report.numPassedTests > 0 ? 0 : 1;
