import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { BlockGraph } from '../../src/engine/block/graph/blockGraph';
import { NbdServer } from '../../src/engine/exports/nbdServer';
import { followGate } from '../../src/engine/gate/policies';
import type { Job } from '../../src/engine/jobs/job';
import { JobManager } from '../../src/engine/jobs/jobManager';
import type { EngineProcessOptions, ToldVerb } from './startEngineProcess';

/*
 * An engine in a process of its own: serves an image, and runs a job on it when it reads the line `start`. `pause at N` and `die at N` are
 * done when the job has done that much; other lines are told to the job. Says `listening`, `started`, `progress N`, `paused`, `dying`, and
 * how the job ended.
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
  let job: Job | null = null;
  /** Ends at the first turn at which the job has done that much, or when it has ended. */
  const done = async (bytes: number) => {
    while (job !== null && job.info.currentProgress < bytes && job.info.outcome === null) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'start') {
      const started = await jobs.start(request, settings);
      const { ended } = started;
      job = started.job;
      id = job.id;
      say('started');
      const timer = setInterval(() => say(`progress ${started.job.info.currentProgress}`), PROGRESS_MS);
      void ended.then(({ outcome }) => {
        clearInterval(timer);
        say(outcome ?? 'failed');
      });
    } else if (line.startsWith('pause at ')) {
      job?.onDidChange(({ status }) => status === 'paused' && say('paused'));
      await done(Number(line.slice('pause at '.length)));
      if (job?.status === 'running') {
        job.pause();
      }
    } else if (line.startsWith('die at ')) {
      job?.resume();
      await done(Number(line.slice('die at '.length)));
      if (job?.info.outcome === null) {
        writeSync(1, 'dying\n');
        process.kill(process.pid, 'SIGKILL');
      }
    } else {
      jobs.tell(id, line as ToldVerb);
    }
  }
  process.exit(0);
}

void main(JSON.parse(process.argv[2] ?? '') as EngineProcessOptions);
