import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { readQcow2Metadata } from '../../../src/engine/formats/qcow2/metadata';
import { readPadded } from '../../../src/engine/io/source';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import { crashed, RecordingStorage } from '../../harness/storage/recordingStorage';
import { SlowStorage } from '../../harness/storage/slowStorage';
import { Random, testCases, testSeed } from '../../interop/random';
import { apply, effect, faults, makeSteps, makeSubject, openSubject, readAll, type Step, type Subject } from './workload';

const seed = testSeed();

/** What a byte may be after a crash: what was flushed, or anything written since. */
class Possible {
  private readonly flushed: Uint8Array;
  /** Changes since the last flush, oldest first; those of a flush that may not have ended among them. */
  private pending: { readonly offset: number; readonly bytes: Uint8Array }[] = [];

  constructor(start: Uint8Array) {
    this.flushed = start.slice();
  }

  add(change: { readonly offset: number; readonly bytes: Uint8Array }): void {
    this.pending.push(change);
  }

  flush(count = this.pending.length): void {
    for (const { offset, bytes } of this.pending.splice(0, count)) {
      this.flushed.set(bytes, offset);
    }
  }

  get waiting(): number {
    return this.pending.length;
  }

  copy(): Possible {
    const other = new Possible(this.flushed);
    other.pending = [...this.pending];
    return other;
  }

  /** The first byte that cannot be; null when there is none. */
  wrong(seen: Uint8Array): string | null {
    for (let at = 0; at < seen.length; at++) {
      if (seen[at] !== this.flushed[at] && !this.pending.some(({ offset, bytes }) => bytes[at - offset] === seen[at])) {
        return `byte ${at} is ${seen[at]}; ${this.flushed[at]} was flushed`;
      }
    }
    return null;
  }
}

/** Which of an image's two files. */
type File = 'image' | 'data';

interface Recording {
  readonly logs: Readonly<Record<File, RecordingStorage['log']>>;
  /** The file of each operation, over both logs in the order in which they came. */
  readonly order: readonly File[];
  /** What may be seen when all is cut after so many operations. */
  readonly possible: readonly Possible[];
}

/** The two files as a crash leaves them. */
type Files = Readonly<Record<File, Uint8Array>>;

function startOf(subject: Subject): Files {
  return { image: subject.start, data: subject.dataFile?.bytes ?? new Uint8Array(0) };
}

/** Runs a workload; `together` many requests at a time, on a disk that reorders them. */
async function record(subject: Subject, steps: readonly Step[], random: Random, together: boolean): Promise<Recording> {
  const order: File[] = [];
  const start = startOf(subject);
  const inner = new RecordingStorage(new MemoryStorage(start.image), () => order.push('image'));
  const data = new RecordingStorage(new MemoryStorage(start.data), () => order.push('data'));
  const disk = (storage: RecordingStorage) => (together ? new SlowStorage(storage, random) : storage);
  const node = await openSubject(subject, disk(inner), subject.dataFile && disk(data));
  const model = new Possible(subject.content);
  const possible: Possible[] = [];
  const note = (): void => {
    while (possible.length <= order.length) {
      possible.push(model.copy());
    }
  };
  note();
  const running = new Set<Promise<void>>();
  let inFlight: { readonly offset: number; readonly bytes: Uint8Array }[] = [];
  for (const step of steps) {
    const change = effect(subject, step);
    // What overlaps and is in flight together has no order.
    if (!together || step.kind === 'flush' || inFlight.some(({ offset, bytes }) => overlaps(change, offset, bytes.length))) {
      await Promise.all(running);
      inFlight = [];
      note();
    }
    if (change) {
      model.add(change);
      inFlight.push(change);
    }
    const done = apply(node, step).finally(() => running.delete(done));
    running.add(done);
    if (!together || step.kind === 'flush') {
      await done;
      // Only now it is promised; everything on the way is judged by what was before.
      possible.length = Math.min(possible.length, order.length + 1);
      while (possible.length < order.length) {
        possible.push(model.copy());
      }
      if (step.kind === 'flush') {
        model.flush();
        possible[order.length] = model.copy();
      }
    }
    note();
  }
  await Promise.all(running);
  note();
  await node.close();
  note();
  return { logs: { image: inner.log, data: data.log }, order, possible };
}

function overlaps(change: ReturnType<typeof effect>, offset: number, length: number): boolean {
  return change !== null && change.offset < offset + length && change.offset + change.bytes.length > offset;
}

async function judge(subject: Subject, files: Files, possible: Possible): Promise<string | null> {
  const file = new MemoryStorage(files.image);
  const data = subject.dataFile && new MemoryStorage(files.data);
  const lazy = subject.options.lazy_refcounts === true;
  // Refcounts may lag behind where the header says so.
  const found = readQcow2Metadata(file).dirty ? '' : await faults(files.image, false);
  if (found !== '') {
    return found;
  }
  // Opening for writing counts anew what is dirty.
  const node = await openSubject(subject, file, data);
  const wrong = possible.wrong(await readAll(node));
  await node.close();
  if (wrong !== null) {
    return wrong;
  }
  if (data && subject.options.data_file_raw === true) {
    // Whoever reads the data file as a raw image sees the disk as well.
    const wrongRaw = possible.wrong(readPadded(data, 0, subject.options.size));
    if (wrongRaw !== null) {
      return `in the data file ${wrongRaw}`;
    }
  }
  const after = await faults(file.bytes, lazy);
  return after === '' ? null : `after opening: ${after}`;
}

function qemuSays(bytes: Uint8Array, directory: string): void {
  const path = join(directory, 'crashed.qcow2');
  writeFileSync(path, bytes);
  try {
    const dirty = readQcow2Metadata(new MemoryStorage(bytes)).dirty;
    execFileSync('qemu-img', ['check', ...(dirty ? ['-r', 'all'] : ['-U']), '-f', 'qcow2', path], { stdio: 'pipe' });
  } catch (error) {
    const { status } = error as { readonly status: number };
    // 3: leaks only.
    if (status !== 3) {
      throw new Error(`qemu-img check exits ${status}`, { cause: error });
    }
  }
}

async function crashTest(random: Random, dataFiles: number, together: boolean, context: (what: string) => void): Promise<number> {
  const subject = await makeSubject(random, { maxClusterBits: 11, maxBytes: 32 * 1024, dataFiles });
  context(subject.describe);
  const steps = makeSteps(random, subject, random.between(3, 20));
  const { logs, order, possible } = await record(subject, steps, random, together);
  const start = startOf(subject);
  let states = 0;
  const directory = mkdtempSync(join(tmpdir(), 'crash-'));
  try {
    for (let count = 0; count <= order.length; count++) {
      const inData = order.slice(0, count).filter((file) => file === 'data').length;
      const kinds: [string, () => boolean][] = [
        ['all', () => true],
        ['none', () => false],
      ];
      for (let i = 0; i < 3; i++) {
        const chance = random.pick([0.2, 0.5, 0.9]);
        kinds.push([`some ${i}`, () => random.chance(chance)]);
      }
      if (subject.dataFile) {
        // Two disks: one keeps what the other loses.
        kinds.push(['only the image', () => true], ['only the data', () => false]);
      }
      for (const [name, keep] of kinds) {
        const image = crashed(start.image, logs.image, count - inData, keep);
        const keepData = name === 'only the image' ? () => false : name === 'only the data' ? () => true : keep;
        const data = crashed(start.data, logs.data, inData, keepData);
        states++;
        const wrong = await judge(subject, { image, data }, possible[count]!);
        if (wrong !== null) {
          const told = steps.map((step) => `${step.kind}${step.kind === 'flush' ? '' : ` ${step.offset}`}`).join(', ');
          throw new Error(`After ${count} of ${order.length} operations, ${name} kept: ${wrong}\n${told}`);
        }
        if (!subject.dataFile && random.chance(0.002)) {
          qemuSays(image, directory);
        }
      }
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
  return states;
}

describe('a loss of power', () => {
  for (const together of [false, true]) {
    for (const [where, dataFiles, count] of [
      ['', 0, 25],
      [' over an external data file', 1, 10],
    ] as const) {
      it(`loses nothing that was flushed and leaves no corruption${where}${together ? ', with many requests in flight' : ''}`, async () => {
        let states = 0;
        for (let i = 0; i < testCases(count); i++) {
          let described = '';
          try {
            states += await crashTest(new Random(seed + i), dataFiles, together, (what) => {
              described = what;
            });
          } catch (cause) {
            throw new Error(`CHAINSCOPE_SEED=${seed + i} CHAINSCOPE_CASES=1: ${described}`, { cause });
          }
        }
        expect(states).toBeGreaterThan(0);
      });
    }
  }
});
