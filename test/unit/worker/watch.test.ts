import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { FileWatch } from '../../../src/engine/io/watch';

const QUICK = { pollMs: 20, settleMs: 5, restMs: 0 };

let folder: string;
const watches: FileWatch[] = [];
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(tmpdir(), 'chainscope-watch-'));
});
afterEach(() => {
  for (const watch of watches.splice(0)) {
    watch.close();
  }
  fs.rmSync(folder, { recursive: true });
});

/** A watch, and a way to wait for the next change it tells of. */
function watching(files: readonly string[], options = QUICK): { watch: FileWatch; next: () => Promise<void>; told: () => number } {
  let count = 0;
  let resolveNext: () => void = () => undefined;
  const watch = new FileWatch(
    files,
    () => {
      count += 1;
      resolveNext();
    },
    options,
  );
  watches.push(watch);
  return { watch, told: () => count, next: () => new Promise((resolve) => (resolveNext = resolve)) };
}

describe('watching files', () => {
  it('tells when one is created, written, replaced and removed', async () => {
    const file = path.join(folder, 'image');
    const { next } = watching([file]);
    const steps: (() => void)[] = [
      () => fs.writeFileSync(file, 'a'),
      () => fs.appendFileSync(file, 'b'),
      () => {
        fs.writeFileSync(`${file}.new`, 'c');
        fs.renameSync(`${file}.new`, file);
      },
      () => fs.rmSync(file),
    ];
    for (const step of steps) {
      const told = next();
      step();
      await told;
    }
  });

  it('tells of many changes once', async () => {
    const files = Array.from({ length: 20 }, (_, index) => path.join(folder, `${index}`));
    const { next, told } = watching(files, { pollMs: 10_000, settleMs: 150, restMs: 0 });
    const first = next();
    for (const file of files) {
      fs.writeFileSync(file, 'x');
    }
    await first;
    expect(told()).toBe(1);
  });

  it('rests between two tellings', async () => {
    const file = path.join(folder, 'busy');
    const { next } = watching([file], { pollMs: 5, settleMs: 1, restMs: 200 });
    const first = next();
    fs.writeFileSync(file, 'a');
    await first;
    const begin = performance.now();
    const second = next();
    fs.writeFileSync(file, 'ab');
    await second;
    expect(performance.now() - begin).toBeGreaterThan(150);
  });

  it('knows what it watched before when its files change', async () => {
    const [one, two] = [path.join(folder, 'one'), path.join(folder, 'two')];
    fs.writeFileSync(one, 'a');
    const { watch, next, told } = watching([one], { ...QUICK, pollMs: 10_000 });
    fs.writeFileSync(one, 'changed');
    // The change of the first file happened before the set grew; it is not forgotten.
    const first = next();
    watch.watch([one, two]);
    await first;
    const second = next();
    fs.writeFileSync(two, 'b');
    await second;
    watch.watch([two]);
    const before = told();
    const third = next();
    fs.writeFileSync(one, 'no longer watched');
    fs.writeFileSync(two, 'changed');
    await third;
    expect(told()).toBe(before + 1);
  });

  it('waits for a folder that is not there yet', async () => {
    const file = path.join(folder, 'later', 'image');
    const { next } = watching([file]);
    const told = next();
    fs.mkdirSync(path.dirname(file));
    fs.writeFileSync(file, 'x');
    await told;
  });
});
