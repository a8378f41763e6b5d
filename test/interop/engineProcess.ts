import { createInterface } from 'node:readline';

import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import { NbdServer } from '../../src/engine/exports/nbdServer';
import { followGate } from '../../src/engine/gate/policies';
import { JobManager } from '../../src/engine/jobs/jobManager';
import type { EngineProcessOptions, ToldVerb } from './startEngineProcess';

/*
 * An engine in a process of its own: serves an image, and runs a job on it when it reads the line `start`; other lines are told to the job.
 * Says `listening`, `started`, `progress N`,
 * and how the job ended.
 */

const PROGRESS_MS = 20;

async function main({ path, format, socket, request, settings }: EngineProcessOptions): Promise<void> {
  const gate = followGate('all');
  const graph = new BlockGraph({ gate });
  const jobs = new JobManager({ graph: () => graph, gate });
  const image = await graph.open(path, { format, readOnly: false, user: 'an NBD export' });
  await NbdServer.listen({
    exports: [{ name: '', description: '', node: image.node, readOnly: false, allocationDepth: false, bitmaps: [] }],
    address: { kind: 'unix', path: socket },
  });
  const say = (line: string) => process.stdout.write(`${line}\n`);
  say('listening');
  let id = '';
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'start') {
      const { job, ended } = await jobs.start(request, settings);
      id = job.id;
      say('started');
      const timer = setInterval(() => say(`progress ${job.info.currentProgress}`), PROGRESS_MS);
      void ended.then(({ outcome }) => {
        clearInterval(timer);
        say(outcome ?? 'failed');
      });
    } else {
      jobs.tell(id, line as ToldVerb);
    }
  }
  process.exit(0);
}

void main(JSON.parse(process.argv[2] ?? '') as EngineProcessOptions);
