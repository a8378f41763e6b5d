import { describe, expect, it } from 'vitest';

import { EngineError } from '../../../src/engine/errors';
import type { Storage } from '../../../src/engine/io/storage';
import { FaultyStorage, type Fault } from '../../harness/storage/faultyStorage';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import { Random, testCases, testSeed } from '../../interop/random';
import { apply, effect, faults, makeSteps, makeSubject, openSubject, readAll, type Step, type Subject } from './workload';

const seed = testSeed();

/** What each byte may be: one value where all went well, two where a change of it failed. */
class Seen {
  private readonly certain: Uint8Array;
  private readonly other: (Set<number> | undefined)[];

  constructor(start: Uint8Array) {
    this.certain = start.slice();
    this.other = new Array<undefined>(start.length).fill(undefined);
  }

  apply({ offset, bytes }: { readonly offset: number; readonly bytes: Uint8Array }, failed: boolean): void {
    for (let i = 0; i < bytes.length; i++) {
      if (!failed) {
        this.certain[offset + i] = bytes[i]!;
        this.other[offset + i] = undefined;
      } else if (bytes[i] !== this.certain[offset + i]) {
        (this.other[offset + i] ??= new Set()).add(bytes[i]!);
      }
    }
  }

  wrong(bytes: Uint8Array): string | null {
    const at = bytes.findIndex((byte, index) => byte !== this.certain[index] && this.other[index]?.has(byte) !== true);
    return at < 0 ? null : `byte ${at} is ${bytes[at]}, not ${this.certain[at]}`;
  }
}

interface Failure {
  readonly kind: Fault | 'read';
  readonly at: number;
  readonly inData: boolean;
}

function faultyOf(storage: Storage, { kind, at, inData }: Failure, data: boolean): FaultyStorage {
  const faulty = new FaultyStorage(storage, kind === 'read' ? 'EIO' : kind);
  if (inData === data) {
    if (kind === 'read') {
      faulty.failReadAt = at;
    } else {
      faulty.failAt = at;
    }
  }
  return faulty;
}

/** Runs the workload with one failure; false when the failure was not met. */
async function runFailing(subject: Subject, steps: readonly Step[], failure: Failure): Promise<boolean> {
  const memory = new MemoryStorage(subject.start);
  const data = subject.dataFile && new MemoryStorage(subject.dataFile.bytes);
  const faulty = faultyOf(memory, failure, false);
  const faultyData = data && faultyOf(data, failure, true);
  const seen = new Seen(subject.content);
  let told = 0;
  const attempt = async (work: () => Promise<unknown>): Promise<boolean> => {
    try {
      await work();
      return true;
    } catch (error) {
      if (!(error instanceof EngineError) || !['file.io', 'file.full'].includes(error.code)) {
        throw error;
      }
      told++;
      return false;
    }
  };
  let node: Awaited<ReturnType<typeof openSubject>> | null = null;
  await attempt(async () => {
    node = await openSubject(subject, faulty, faultyData);
  });
  node ??= await openSubject(subject, faulty, faultyData);
  for (const step of steps) {
    const done = await attempt(() => apply(node!, step));
    const change = effect(subject, step);
    if (change) {
      seen.apply(change, !done);
    } else if (step.kind === 'discard' && !done) {
      // A part of it may have been given up.
      seen.apply({ offset: step.offset, bytes: new Uint8Array(step.length) }, true);
    }
  }
  let content: Uint8Array | null = null;
  await attempt(async () => {
    content = await readAll(node!);
  });
  content ??= await readAll(node);
  expect(seen.wrong(content)).toBeNull();
  if (!(await attempt(() => node!.close()))) {
    // Only flushed changes are promised then.
    expect(isDirty(memory) ? '' : await faults(memory.bytes, false)).toBe('');
    return true;
  }
  const met = failure.kind === 'read' ? counted(faulty, faultyData, failure).reads : counted(faulty, faultyData, failure).operations;
  if (met <= failure.at) {
    return false;
  }
  expect(told, 'failures that were told').toBeGreaterThan(0);
  expect(await faults(memory.bytes, false)).toBe('');
  const again = await openSubject(subject, memory, data);
  expect(seen.wrong(await readAll(again))).toBeNull();
  await again.write(0, new Uint8Array(Math.min(512, again.size)).fill(77));
  await again.close();
  expect(await faults(memory.bytes, false)).toBe('');
  return true;
}

function counted(faulty: FaultyStorage, data: FaultyStorage | null, { inData }: Failure): FaultyStorage {
  return inData && data ? data : faulty;
}

function isDirty(storage: MemoryStorage): boolean {
  return (storage.bytes[79]! & 1) === 1;
}

describe('a disk that fails', () => {
  for (const kind of ['EIO', 'ENOSPC', 'short', 'read'] as const) {
    it(`${kind} at every single operation: whoever asked is told, the image stays sound, and goes on`, async () => {
      let runs = 0;
      for (let i = 0; i < testCases(6); i++) {
        const random = new Random(seed + i);
        const subject = await makeSubject(random, { maxClusterBits: 11, maxBytes: 32 * 1024 });
        const steps = makeSteps(random, subject, random.between(5, 25));
        for (const inData of subject.dataFile ? [false, true] : [false]) {
          for (let at = 0, met = true; met; at++) {
            try {
              met = await runFailing(subject, steps, { kind, at, inData });
            } catch (cause) {
              const told = steps.map((step) => `${step.kind}${step.kind === 'flush' ? '' : ` ${step.offset}`}`).join(', ');
              throw new Error(`CHAINSCOPE_SEED=${seed + i} CHAINSCOPE_CASES=1: operation ${at}: ${subject.describe}: ${told}`, { cause });
            }
            runs++;
          }
        }
      }
      expect(runs).toBeGreaterThan(testCases(6));
    });
  }
});
