import { expect, it } from 'vitest';

import { QuietImage } from '../../../src/engine/formats/qcow2/manage/quietImage';
import { createSnapshot, deleteSnapshot } from '../../../src/engine/formats/qcow2/manage/snapshots';
import { Qcow2Node } from '../../../src/engine/formats/qcow2/write/qcow2Node';
import { run } from '../../../src/engine/formats/qcow2/write/steps';
import { createQcow2 } from '../../../src/engine/formats/qcow2/manage/create';
import { MemoryStorage } from '../../harness/storage/memoryStorage';
import { faults } from './workload';

const CLUSTER = 4096;

it('takes the clusters of a snapshot that was deleted while the image is in use', async () => {
  const storage = new MemoryStorage();
  await createQcow2(storage, { size: 200 * CLUSTER, cluster_size: CLUSTER });
  const node = await Qcow2Node.open({ storage, backing: null, nodeName: 'image', readOnly: false });
  const write = async (first: number, fill: number): Promise<void> => {
    for (let cluster = first; cluster < first + 20; cluster++) {
      await node.write(cluster * CLUSTER, new Uint8Array(CLUSTER).fill(fill));
    }
  };
  const quiet = async (work: (image: QuietImage) => Promise<unknown>): Promise<void> => {
    await run(node.settle());
    await work(QuietImage.open(storage, { settled: true }));
    node.reload();
  };
  await write(0, 1);
  await quiet((image) => createSnapshot(image, { name: 'one' }));
  await write(0, 2);
  await quiet((image) => deleteSnapshot(image, { name: 'one' }));
  const length = storage.size;
  // More than what the snapshot gave back: its tables' places are among it.
  await write(20, 3);
  await write(40, 4);
  await node.close();
  expect(storage.size - length).toBeLessThan(40 * CLUSTER);
  expect(await faults(storage.bytes, true)).toBe('');
});
