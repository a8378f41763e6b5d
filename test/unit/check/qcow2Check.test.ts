import { describe, expect, it } from 'vitest';
import { EngineError } from '../../../src/engine/errors';
import { checkQcow2, type CheckResult, type Qcow2CheckOptions } from '../../../src/engine/check/qcow2Check';
import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import { Random, testCases, testSeed } from '../../interop/random';
import { SparseSource } from '../inspect/memory';
import { damage, randomImage, type DamagedImage } from './randomQcow2';
import { referenceCheck, type ReferenceCounts } from './reference';

const OPTIONS: Qcow2CheckOptions = { deep: false, maxFindings: 1000 };
const TINY_WINDOWS = { sparse: 64, compact: 32, wide: 32 };

async function check(file: Uint8Array, options: Partial<Qcow2CheckOptions> = {}): Promise<CheckResult> {
  const source = new SparseSource([{ hostOffset: 0, bytes: file }], file.length);
  return checkQcow2(readQcow2Metadata(source), { ...OPTIONS, ...options });
}

function comparable({ counts }: CheckResult): ReferenceCounts {
  const { corruptionsFixed: _corruptionsFixed, leaksFixed: _leaksFixed, ...rest } = counts;
  return rest;
}

/** Everything but the time. */
function lasting({ elapsedMs: _elapsedMs, ...report }: CheckResult): Omit<CheckResult, 'elapsedMs'> {
  return report;
}

async function compare({ file, describe: title }: DamagedImage): Promise<void> {
  const wanted = referenceCheck(file);
  let report: CheckResult;
  try {
    report = await check(file);
  } catch (error) {
    expect(error, title).toBeInstanceOf(EngineError);
    return;
  }
  if (wanted === 'refused') {
    expect(report.exitCode, title).toBe(1);
    return;
  }
  if (report.failure !== null) {
    // The reference does not judge broken bitmap directories.
    expect(
      report.kinds.some(({ kind }) => kind.startsWith('bitmap') || kind === 'unreadable'),
      title,
    ).toBe(true);
    return;
  }
  expect(comparable(report), title).toEqual(wanted);
  for (const [category, count] of [
    ['corruption', wanted.corruptions],
    ['leak', wanted.leaks],
    ['checkError', wanted.checkErrors],
  ] as const) {
    const kinds = report.kinds.filter((kind) => kind.category === category);
    expect(
      kinds.reduce((sum, kind) => sum + kind.count, 0),
      `${category}: ${title}`,
    ).toBe(count);
  }
  expect(lasting(await check(file, { loops: 'js' })), title).toEqual(lasting(report));
  const inPieces = await check(file, { windows: TINY_WINDOWS });
  expect({ ...comparable(inPieces), kinds: byName(inPieces) }, `in windows: ${title}`).toEqual({ ...wanted, kinds: byName(report) });
}

function byName({ kinds }: CheckResult): string[] {
  return kinds.map(({ kind, category, count }) => `${category} ${kind} ${count}`).sort();
}

describe('a qcow2 check counts what the plain reference counts', () => {
  const seed = testSeed();
  const cases = testCases(160);

  it(`in sound images (CHAINSCOPE_SEED=${seed})`, async () => {
    for (let i = 0; i < cases / 4; i++) {
      const image = randomImage(new Random(seed + i));
      await compare(image);
      const report = await check(image.file);
      expect({ exitCode: report.exitCode, strict: report.strictExitCode, kinds: report.kinds }, image.describe).toEqual({
        exitCode: 0,
        strict: 0,
        kinds: [],
      });
    }
  });

  it(`in damaged images (CHAINSCOPE_SEED=${seed})`, async () => {
    for (let i = 0; i < cases; i++) {
      const random = new Random(seed + i);
      await compare(damage(random, randomImage(random)));
    }
  });
});
