import { readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Mocha from 'mocha';

/** What a suite leaves for `npm test` to add up. */
export interface SuiteResult {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export interface MochaSuiteOptions {
  /** Names the result file. */
  readonly name: string;
  /** Folder with the bundled `*.test.js`. */
  readonly folder: string;
  /** Folder for the result. */
  readonly results: string;
  /** Milliseconds for one test. */
  readonly timeout: number;
  /** Clears up after a test that failed, so that the next ones are not disturbed. */
  readonly afterFailure?: () => Promise<void>;
  /** Only tests whose full title contains this. */
  readonly only?: string | undefined;
}

/** Runs every test file of a folder and writes the counts to `<results>/<name>.json`. */
export async function runMochaSuite({ name, folder, results, timeout, only, afterFailure }: MochaSuiteOptions): Promise<SuiteResult> {
  const mocha = new Mocha({ ui: 'bdd', reporter: 'spec', timeout, slow: timeout });
  if (only !== undefined) {
    mocha.grep(only);
  }
  if (afterFailure !== undefined) {
    mocha.rootHooks({
      async afterEach(this: Mocha.Context) {
        if (this.currentTest?.state === 'failed') {
          await afterFailure();
        }
      },
    });
  }
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    if (file.endsWith('.test.js')) {
      mocha.addFile(join(folder, file));
    }
  }
  await mocha.loadFilesAsync();
  const result = await new Promise<SuiteResult>((resolve) => {
    const runner = mocha.run((failures) =>
      resolve({ passed: runner.stats?.passes ?? 0, failed: failures, skipped: runner.stats?.pending ?? 0 }),
    );
  });
  await mkdir(results, { recursive: true });
  await writeFile(join(results, `${name}.json`), JSON.stringify(result));
  return result;
}
