import { readFile } from 'node:fs/promises';

/**
 * How a suite went. A suite that ran nothing, left a test out or ended badly has failed, whatever its tests say.
 *
 * @typedef {object} SuiteResult
 * @property {number} passed
 * @property {number} failed
 * @property {string[]} problems what is wrong beside failed tests, a sentence each; every one counts as failed
 */

/**
 * @param {{ passed: number, failed: number, skipped: number }} counts
 * @param {{ code: number, timedOut: boolean }} ended
 * @returns {SuiteResult}
 */
export function judge({ passed, failed, skipped }, { code, timedOut }) {
  const problems = [
    ...(timedOut ? ['it took too long and was stopped'] : []),
    ...(skipped > 0 ? [`${skipped} tests were skipped`] : []),
    ...(passed + failed === 0 ? ['no test ran'] : []),
    ...(code !== 0 && failed === 0 && passed > 0 && !timedOut ? [`it ended with exit code ${code} though no test failed`] : []),
  ];
  return { passed, failed: failed + problems.length, problems };
}

/**
 * Counts in the result file of vitest's JSON reporter. A file that could not be loaded has no test in it and counts as one failure.
 *
 * @param {string} file
 */
export async function vitestCounts(file) {
  const report = /** @type {VitestReport | undefined} */ (await readJson(file));
  if (report === undefined) {
    return { passed: 0, failed: 0, skipped: 0 };
  }
  const broken = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && assertionResults.every((test) => test.status !== 'failed'),
  );
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests + broken.length,
    skipped: report.numPendingTests + report.numTodoTests,
  };
}

/**
 * @typedef {object} VitestReport
 * @property {number} numPassedTests
 * @property {number} numFailedTests
 * @property {number} numPendingTests
 * @property {number} numTodoTests
 * @property {{ status: string, assertionResults: { status: string }[] }[]} testResults
 */

/**
 * Counts in the result file of the mocha suites (test/harness/mochaSuite.ts).
 *
 * @param {string} file
 */
export async function mochaCounts(file) {
  const counts = /** @type {{ passed: number, failed: number, skipped: number } | undefined} */ (await readJson(file));
  return counts ?? { passed: 0, failed: 0, skipped: 0 };
}

/**
 * @param {string} file
 * @returns {Promise<unknown>} undefined where the suite died before it wrote one
 */
async function readJson(file) {
  try {
    /** @type {unknown} */
    const parsed = JSON.parse(await readFile(file, 'utf8'));
    return parsed;
  } catch {
    return undefined;
  }
}
