import { readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import { followGate } from '../../src/engine/gate/policies';
import { JobManager } from '../../src/engine/jobs/jobManager';
import type { JobRequest } from '../../src/protocol/jobs';
import { keepContent, linksOf, makeJobChain, type ChainLayer } from './jobChains';
import { Random } from './random';
import { ShadowGuest } from './shadowGuest';
import { EngineProcess } from './startEngineProcess';
import { qemuImg, temporaryFolder } from './tools';

/* Processes that are killed while a job of theirs works and a guest writes: nothing that was flushed is lost, and the job can go on. */

const folders: { dispose(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(folders.splice(0).map((folder) => folder.dispose()));
});

/** Jobs on the chain of three whose lowest is `l0`, and what the disk is when they are done. */
const KILLED: readonly {
  readonly name: string;
  readonly request: (layers: readonly ChainLayer[], at: (name: string) => string) => JobRequest;
  /** The guest's disk afterwards, and how many images it consists of. */
  readonly end: (layers: readonly ChainLayer[]) => readonly [ChainLayer, number];
}[] = [
  {
    name: 'a stream',
    request: (layers, at) => ({ type: 'stream', image: activeOf(layers, at), base: null, bottom: null, range: null }),
    end: (layers) => [layers[2]!, 1],
  },
  {
    name: 'a commit of an image between',
    request: (layers, at) => ({ type: 'commit', image: activeOf(layers, at), top: at(layers[1]!.name), base: null }),
    end: (layers) => [layers[2]!, 2],
  },
  {
    name: 'a commit of the active layer',
    request: (layers, at) => ({ type: 'commit', image: activeOf(layers, at), top: null, base: null }),
    end: (layers) => [{ ...layers[0]!, size: layers[2]!.size }, 1],
  },
  {
    name: 'a mirror',
    request: (layers, at) => ({
      type: 'mirror',
      image: activeOf(layers, at),
      target: at('copy'),
      targetFormat: 'qcow2',
      options: {},
      sync: 'full',
    }),
    end: (layers) => [{ name: 'copy', format: 'qcow2', size: layers[2]!.size }, 1],
  },
  {
    name: 'a rebase',
    request: (layers, at) => ({ type: 'rebase', image: activeOf(layers, at), backing: null }),
    end: (layers) => [layers[2]!, 1],
  },
  {
    name: 'an allocation',
    request: (layers, at) => ({ type: 'allocate', image: activeOf(layers, at), range: null, mode: 'zero' }),
    end: (layers) => [layers[2]!, 3],
  },
  {
    name: 'a trim',
    request: (layers, at) => ({ type: 'trim', image: activeOf(layers, at), range: null }),
    end: (layers) => [layers[2]!, 3],
  },
];

function activeOf(layers: readonly ChainLayer[], at: (name: string) => string): JobRequest['image'] {
  return { path: at(layers[2]!.name), format: layers[2]!.format };
}

describe('kill -9 in the middle of', () => {
  test.each(KILLED)('$name leaves what the guest had flushed, and the same request goes on from there', async ({ request: make, end }) => {
    const folder = await temporaryFolder('jobs');
    folders.push(folder);
    const at = (name: string) => join(folder.path, name);
    const layers = await makeJobChain(new Random(6), folder.path, 3, true);
    const top = layers.at(-1)!;
    await keepContent(folder.path, top, 'content');
    const shadow = await readFile(at('content'));
    const request = make(layers, at);
    const options = { path: request.image.path, format: top.format, socket: at('socket'), request, settings: { speed: top.size } };
    const engine = await EngineProcess.start(resolve('dist/test/bench/engineProcess.mjs'), options);
    const guest = await ShadowGuest.connect(options.socket, 4, shadow, 6);
    guest.start();
    await engine.startJob();
    await engine.pauseAt(top.size / 4);
    await guest.pause();
    guest.start(false);
    await engine.dieAt(top.size / 2);
    await guest.crashed();
    await writeFile(at('content'), shadow);
    const same = async ({ name, format }: ChainLayer) =>
      expect(await qemuImg(['compare', '-f', format, '-F', 'raw', at(name), at('content')])).toMatchObject({ code: 0 });
    await same(top);
    // What is leaked is no error of the guest's data.
    expect([0, 3]).toContain((await qemuImg(['check', '-f', top.format, at(top.name)])).code);
    expect(await linksOf(folder.path, top)).toHaveLength(3);
    const gate = followGate('all');
    const graph = new BlockGraph({ gate });
    const again = await new JobManager({ graph: () => graph, gate }).start(request);
    again.job.onDidChange(({ status }) => status === 'ready' && again.job.complete());
    expect(await again.ended).toMatchObject({ outcome: 'completed', error: null });
    const [disk, images] = end(layers);
    await same(disk);
    expect(await linksOf(folder.path, disk)).toHaveLength(images);
  });
});
