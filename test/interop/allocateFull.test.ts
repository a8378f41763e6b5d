import { copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';

import { allocate, type AllocationMode } from '../../src/engine/allocation/allocate';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import { NbdServer } from '../../src/engine/exports/nbdServer';
import { followGate } from '../../src/engine/gate/policies';
import type { ImageFormat } from '../../src/protocol/chain';
import { Random, testSeed } from './random';
import { fillUp, mountSmallDisk } from './smallMount';
import { makeWithQemuImg, qemuImg, runTool, temporaryFolder, writeWithQemuIo } from './tools';

/* What `allocate` promises: with the file system full, a guest's writes to the range succeed. The guest goes on while it is allocated. */

const MIB = 2 ** 20;
const SIZE = 2 * MIB;
const DEVICE = 12 * MIB;
const PIECE = 4096;

const ended: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0).reverse()) {
    await end();
  }
});

interface Kind {
  readonly format: ImageFormat;
  readonly options?: string;
  readonly backed?: boolean;
  readonly dataFile?: boolean;
  /** What becomes of the image before it is allocated. */
  readonly history?: 'snapshot' | 'compressed' | 'discarded';
}

const KINDS: Readonly<Record<string, Kind>> = {
  'qcow2 with a backing file': { format: 'qcow2', backed: true },
  'qcow2 alone': { format: 'qcow2' },
  'qcow2 version 2 with a backing file': { format: 'qcow2', options: 'compat=0.10', backed: true },
  'extended L2 entries with a backing file': { format: 'qcow2', options: 'extended_l2=on', backed: true },
  'extended L2 entries alone': { format: 'qcow2', options: 'extended_l2=on,cluster_size=256k' },
  'an internal snapshot': { format: 'qcow2', history: 'snapshot' },
  'an internal snapshot and a backing file': { format: 'qcow2', backed: true, history: 'snapshot' },
  'compressed clusters': { format: 'qcow2', history: 'compressed' },
  'holes within the file': { format: 'qcow2', backed: true, history: 'discarded' },
  'an external data file': { format: 'qcow2', dataFile: true, history: 'discarded' },
  'a raw external data file': { format: 'qcow2', options: 'data_file_raw=on', dataFile: true, history: 'discarded' },
  raw: { format: 'raw', history: 'discarded' },
  'QED with a backing file': { format: 'qed', backed: true },
};

/** Makes the image in `folder`, its backing file elsewhere. */
async function makeImage({ format, options, backed, dataFile, history }: Kind, folder: string, elsewhere: string, random: Random) {
  const disk = join(folder, 'disk');
  const io = ['-d', 'unmap', '-f', format, disk];
  const some = (pattern: number) => `write -P ${pattern} ${PIECE * random.below(256)} ${PIECE * random.between(1, 200)}`;
  const base = join(elsewhere, 'base');
  if (backed) {
    await makeWithQemuImg(['create', '-q', '-f', 'qcow2', base, `${SIZE}`]);
    await writeWithQemuIo(['-f', 'qcow2', base], ['write -P 17 300k 400k', 'write -z 1M 100k', 'write -P 18 1500k 3k']);
  }
  const all = [options, ...(dataFile ? [`data_file=${join(folder, 'data')}`] : [])].filter((option) => option !== undefined).join(',');
  const create = ['create', '-q', '-f', format, ...(all === '' ? [] : ['-o', all]), ...(backed ? ['-b', base, '-F', 'qcow2'] : [])];
  await makeWithQemuImg([...create, disk, `${SIZE}`]);
  await writeWithQemuIo(io, [some(33), `write -z ${PIECE * random.below(100)} 200k`]);
  if (history === 'snapshot') {
    await makeWithQemuImg(['snapshot', '-c', 'before', disk]);
    await writeWithQemuIo(io, [some(34)]);
  } else if (history === 'discarded') {
    await writeWithQemuIo(io, ['write -P 35 0 1900k', 'discard 128k 512k', 'write -z -u 1M 256k', 'discard 1536k 128k']);
  } else if (history === 'compressed') {
    const plain = join(elsewhere, 'plain');
    await copyFile(disk, plain);
    await makeWithQemuImg(['convert', '-c', '-f', format, '-O', format, plain, disk]);
  }
  return disk;
}

describe('after an allocation no write fails on a full file system', () => {
  const seed = testSeed();
  const cases = Object.entries(KINDS).flatMap(([title, kind]) =>
    (['metadata', 'zero'] as const).filter((mode) => mode === 'zero' || kind.format !== 'qed').map((mode) => ({ title, kind, mode })),
  );
  test.each(cases)(`$title, $mode (seed ${seed})`, async ({ kind, mode }: { kind: Kind; mode: AllocationMode }) => {
    const random = new Random(seed);
    const elsewhere = await temporaryFolder('allocate');
    ended.push(() => elsewhere.dispose());
    const mount = await mountSmallDisk(DEVICE);
    ended.push(() => mount.dispose());
    const disk = await makeImage(kind, mount.path, elsewhere.path, random);
    const content = join(elsewhere.path, 'content');
    await makeWithQemuImg(['convert', '-f', kind.format, '-O', 'raw', disk, content]);

    const graph = new BlockGraph({ gate: followGate('all') });
    const image = await graph.open(disk, { format: kind.format, readOnly: false, user: 'an NBD export' });
    const socket = join(elsewhere.path, 'socket');
    const server = await NbdServer.listen({
      exports: [{ name: '', description: '', node: image.node, readOnly: false, allocationDepth: false, bitmaps: [] }],
      address: { kind: 'unix', path: socket },
    });
    const guest = ['-t', 'none', '-f', 'raw', `nbd+unix:///?socket=${socket}`];
    const meanwhile = Array.from({ length: 20 }, (_, index) => `write -P ${50 + index} ${PIECE * random.below(SIZE / PIECE)} ${PIECE}`);
    await Promise.all([allocate(image.node, mode, 0, SIZE), writeWithQemuIo(guest, [...meanwhile, 'flush'])]);
    await writeWithQemuIo(['-f', 'raw', content], meanwhile);
    expect(await qemuImg(['compare', '-f', 'raw', '-F', 'raw', guest.at(-1)!, content])).toMatchObject({ code: 0 });

    await fillUp(mount);
    const writes = shuffled(random, SIZE / PIECE / 4).map((piece) => `write -P ${1 + (piece % 250)} ${piece * PIECE * 4} ${PIECE * 4}`);
    const written = await runTool('qemu-io', [
      ...guest.slice(0, 2),
      ...[...writes, 'flush'].flatMap((line) => ['-c', line]),
      ...guest.slice(2),
    ]);
    expect(`${written.stdout}${written.stderr}`).not.toContain('No space left');
    expect(written.code).toBe(0);
    await server.close();
    await image.close();
    await writeWithQemuIo(['-f', 'raw', content], writes);
    expect(await qemuImg(['compare', '-f', kind.format, '-F', 'raw', disk, content])).toMatchObject({ code: 0 });
    if (kind.format !== 'raw') {
      expect(await qemuImg(['check', '-f', kind.format, disk])).toMatchObject({ code: 0 });
    }
  });
});

function shuffled(random: Random, count: number): number[] {
  const items = Array.from({ length: count }, (_, index) => index);
  for (let at = count - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [items[at], items[other]] = [items[other]!, items[at]!];
  }
  return items;
}
