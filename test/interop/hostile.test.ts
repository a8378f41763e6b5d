import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { readQcow2Metadata } from '../../src/engine/formats/qcow2/metadata';
import { MemorySource } from '../unit/io/memorySource';
import { CLUSTER, damaged, DAMAGES, soundImage, type Damage, type Request } from '../unit/qcow2write/hostileImages';
import { qemuImg, runTool, temporaryFolder } from './tools';

/*
 * Which contradictions make QEMU mark an image as corrupt: those on which nothing is written any more here, but for the listed ones, where
 * QEMU goes on. Ours is in test/unit/qcow2write/hostile.test.ts.
 */

const COMMANDS: Readonly<Record<Request, (guestOffset: number) => string>> = {
  write: (at) => `write -P 7 ${at} ${CLUSTER}`,
  part: (at) => `write -P 7 ${at + 512} 1024`,
  zeroes: (at) => `write -z -u ${at} ${CLUSTER}`,
  discard: (at) => `discard ${at} ${CLUSTER}`,
  compressed: (at) => `write -c -P 7 ${at} ${CLUSTER}`,
  read: (at) => `read ${at} ${CLUSTER}`,
  grow: () => 'truncate +40k',
};

let folder: Awaited<ReturnType<typeof temporaryFolder>>;

beforeAll(async () => {
  folder = await temporaryFolder('hostile');
});

afterAll(async () => {
  await folder.dispose();
});

/** Whether qemu-io marks the image as corrupt when it meets the damage. */
async function marked(damage: Damage, request: Request): Promise<boolean> {
  const path = join(folder.path, 'image.qcow2');
  const { bytes, guestOffset } = damaged(damage, await soundImage(damage.options));
  await writeFile(path, bytes);
  await runTool('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-c', COMMANDS[request](guestOffset), '-c', 'flush', path]);
  return readQcow2Metadata(new MemorySource(await readFile(path))).corrupt;
}

describe('metadata that contradicts itself, met by QEMU', () => {
  it('is judged the same as here, where no reason is given', async () => {
    const sound = await soundImage();
    const path = join(folder.path, 'sound.qcow2');
    await writeFile(path, sound.bytes);
    expect((await qemuImg(['check', '-f', 'qcow2', path])).code).toBe(0);

    const goesOn: string[] = [];
    const excusedInVain: string[] = [];
    for (const damage of DAMAGES) {
      // Version 2 has no such mark.
      if (damage.options?.compat === '0.10') {
        continue;
      }
      let stops = 0;
      for (const request of damage.requests) {
        const stopped = await marked(damage, request);
        stops += stopped ? 1 : 0;
        if (!stopped && damage.qemu === undefined) {
          goesOn.push(`${damage.name}: ${request}`);
        }
      }
      if (damage.qemu !== undefined && stops === damage.requests.length) {
        excusedInVain.push(damage.name);
      }
    }
    expect({ goesOn, excusedInVain }).toEqual({ goesOn: [], excusedInVain: [] });
  });
});
