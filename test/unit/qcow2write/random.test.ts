import { describe, expect, it } from 'vitest';

import { SlowStorage } from '../../harness/storage/slowStorage';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import { Random, testCases, testSeed } from '../../interop/random';
import { apply, difference, effect, faults, makeSteps, makeSubject, openSubject, readAll, type Step, type Subject } from './workload';

const seed = testSeed();

/** Runs steps one after the other, with what the guest shall see kept beside; the check after each one ends the first wrong one. */
async function runSteps(subject: Subject, steps: readonly Step[], random: Random): Promise<void> {
  const storage = new MemoryStorage(subject.start);
  const node = await openSubject(subject, storage);
  const model = subject.content.slice();
  for (const [index, step] of steps.entries()) {
    await apply(node, step);
    const change = effect(subject, step);
    if (change) {
      model.set(change.bytes, change.offset);
    }
    const from = random.below(model.length);
    const part = new Uint8Array(Math.min(model.length - from, random.between(1, 40000)));
    await node.read(from, part);
    const wrong = difference(part, model.subarray(from, from + part.length));
    if (wrong !== null) {
      throw new Error(`After step ${index} (${step.kind}), from ${from} on, ${wrong}.`);
    }
  }
  expect(difference(await readAll(node), model)).toBeNull();
  await node.close();
  expect(await faults(storage.bytes, true)).toBe('');
  const again = await openSubject(subject, storage);
  expect(difference(await readAll(again), model)).toBeNull();
  await again.close();
}

/** The same with many in flight at a time, over disjoint ranges as a guest has them and over the same clusters. */
async function runTogether(subject: Subject, steps: readonly Step[], random: Random): Promise<void> {
  const inner = new MemoryStorage(subject.start);
  const dataFile = subject.dataFile && new SlowStorage(subject.dataFile, random);
  const node = await openSubject(subject, new SlowStorage(inner, random, { unloaded: 20 }), dataFile);
  const model = subject.content.slice();
  const running = new Set<{ readonly from: number; readonly end: number; readonly done: Promise<void> }>();
  for (const step of steps) {
    const change = effect(subject, step);
    const from = step.kind === 'flush' ? 0 : step.offset;
    const end = change ? change.offset + change.bytes.length : step.kind === 'discard' ? step.offset + step.length : from;
    // What overlaps has no order of its own; neighbours in one cluster have to come out right.
    while (running.size > 20 || [...running].some((other) => other.from < end && other.end > from)) {
      await Promise.race([...running].map(({ done }) => done));
    }
    if (change) {
      model.set(change.bytes, change.offset);
    }
    const entry = {
      from,
      end,
      done: apply(node, step).finally(() => {
        running.delete(entry);
      }),
    };
    running.add(entry);
    if (random.chance(0.2)) {
      const at = random.below(model.length);
      const part = new Uint8Array(Math.min(model.length - at, random.between(1, 5000)));
      if (![...running].some((other) => other.from < at + part.length && other.end > at)) {
        const expected = model.slice(at, at + part.length);
        const reading = {
          from: at,
          end: at + part.length,
          done: Promise.resolve(node.read(at, part))
            .then(() => {
              expect(difference(part, expected), `read at ${at}`).toBeNull();
            })
            .finally(() => {
              running.delete(reading);
            }),
        };
        running.add(reading);
      }
    }
  }
  await Promise.all([...running].map(({ done }) => done));
  expect(difference(await readAll(node), model)).toBeNull();
  await node.close();
  expect(await faults(inner.bytes, true)).toBe('');
  const again = await openSubject(subject, inner);
  expect(difference(await readAll(again), model)).toBeNull();
  await again.close();
}

async function cases(count: number, run: (random: Random, context: (subject: Subject) => void) => Promise<void>): Promise<void> {
  for (let i = 0; i < count; i++) {
    let described = '';
    try {
      await run(new Random(seed + i), (subject) => {
        described = subject.describe;
      });
    } catch (cause) {
      throw new Error(`CHAINSCOPE_SEED=${seed + i} CHAINSCOPE_CASES=1: ${described}`, { cause });
    }
  }
}

describe('random workloads on qcow2 images', () => {
  it('shows what was written, step by step, and leaves nothing behind', async () => {
    await cases(testCases(150), async (random, context) => {
      const subject = await makeSubject(random);
      context(subject);
      await runSteps(subject, makeSteps(random, subject, random.between(1, 60)), random);
    });
  });

  it('shows what was written by many requests at a time on a slow disk', async () => {
    await cases(testCases(60), async (random, context) => {
      const subject = await makeSubject(random);
      context(subject);
      await runTogether(subject, makeSteps(random, subject, random.between(40, 150)), random);
    });
  });
});
