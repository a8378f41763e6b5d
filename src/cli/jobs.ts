import type { JobRequest, JobSettings } from '../protocol/jobs';
import type { ImageReference } from '../protocol/manage';
import { openChain } from '../engine/chain/openChain';
import { BlockGraph } from '../engine/block/graph/blockGraph';
import { cancelled } from '../engine/errors';
import { JobManager, type JobDescription } from '../engine/jobs/jobManager';
import { mayBeTold } from '../engine/jobs/states';
import type { CommandLine, Context } from './commandLine';
import { readSizeArgument } from './formatOptions';
import type { ImageArgument } from './imageArguments';
import { interruptible } from './interruption';
import { prettyJson } from './json';
import { managedFile, manageContext } from './managing';
import { ProgressLine } from './progress';

/** The whole system counts as busy when programs wait for I/O for this share of the time. */
const BUSY_SYSTEM = 0.1;
/** A pause that somebody else's work leaves, in milliseconds. */
const GRACE_MS = 50;
const PROGRESS_MS = 100;

/** `--speed` and `--idle` of commands that run a job. @throws CommandError */
export function readSettings(line: CommandLine, context: Context): Partial<JobSettings> {
  const speed = line.value('speed');
  return {
    speed: speed === null ? 0 : readSizeArgument(speed, 'speed', context.program),
    pace: line.has('idle') ? { kind: 'idle', graceMs: GRACE_MS, systemPressure: BUSY_SYSTEM } : { kind: 'full' },
  };
}

/** The image of a job; its format by its first bytes where nobody said it. @throws CommandError, EngineError */
export async function jobImage(line: CommandLine, image: ImageArgument, context: Context): Promise<ImageReference> {
  const { filename, format } = managedFile(image);
  if (format !== null) {
    return { path: filename, format };
  }
  const { gate, currentFolder } = manageContext(line, image, context);
  const chain = await openChain(filename, { gate, currentFolder, locks: null });
  chain.close();
  return { path: filename, format: chain.layers[0]!.detail.format };
}

/**
 * Runs one job to its end, with progress where it is wanted; SIGINT and SIGTERM cancel it.
 * @param more what the JSON says besides of a job that has ended
 * @throws EngineError; CommandError as `interruptible`
 */
export async function runJob(
  request: JobRequest,
  settings: Partial<JobSettings>,
  image: ImageArgument,
  line: CommandLine,
  context: Context,
  more: () => Promise<Readonly<Record<string, number>>> = () => Promise.resolve({}),
): Promise<JobDescription> {
  const json = line.output() === 'json';
  const { gate, currentFolder, passphraseOf } = manageContext(line, image, context);
  const graph = new BlockGraph({ gate, currentFolder });
  const manager = new JobManager({ graph: () => graph, gate, currentFolder, passphraseOf });
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && !json);
  progress.begin();
  try {
    return await interruptible('what was done stays.', async (signal) => {
      const { job, ended } = await manager.start(request, settings, signal);
      const cancel = () => {
        if (mayBeTold(job.status, 'cancel')) {
          job.cancel();
        }
      };
      signal.addEventListener('abort', cancel);
      if (signal.aborted) {
        cancel();
      }
      const timer = setInterval(() => {
        progress.report(job.info.currentProgress, job.info.totalProgress);
      }, PROGRESS_MS);
      job.onDidChange(({ status }) => {
        if (status === 'ready') {
          job.complete();
        }
      });
      const end = await ended.finally(() => clearInterval(timer));
      if (end.outcome === 'completed') {
        progress.complete();
      } else if (end.outcome === 'failed') {
        throw end.error;
      }
      if (json) {
        context.out.write(`${prettyJson({ ...jobJson(end), ...(await more()) })}\n`);
      }
      if (end.outcome === 'cancelled') {
        throw cancelled();
      }
      return end;
    });
  } finally {
    progress.end();
  }
}

function jobJson({ id, type, outcome, currentProgress, totalProgress }: JobDescription): Record<string, string | number | null> {
  return { id, type, outcome, 'current-progress': currentProgress, 'total-progress': totalProgress };
}
