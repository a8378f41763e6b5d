import type { CheckReport } from '../../protocol/check';
import { linkError } from '../../engine/chain/complete';
import type { OpenedChain } from '../../engine/chain/layer';
import { checkImage } from '../../engine/check/check';
import { EngineError } from '../../engine/errors';
import type { Follow } from '../../engine/gate/policies';
import { requireDataFileName, requireLuksHeader } from '../../engine/info/opening';
import { CommandLine, FOLLOW, FORMAT, OUTPUT, requireCacheMode, type Context } from '../commandLine';
import { checkJson, checkText, findingLines } from '../checkOutput';
import { CommandError, UsageError } from '../errors';
import { lockForReading } from '../guestChain';
import type { ImageArgument } from '../imageArguments';
import { openToInspect } from '../inspectedChain';
import { prettyJson } from '../json';
import { manageContext, managedFile } from '../managing';
import { ProgressLine } from '../progress';

const EXIT_UNSUPPORTED = 63;

/** Findings kept of each kind; all are counted. */
const MAX_FINDINGS = 1000;

/**
 * `check`: whether an image's metadata is consistent. Exit code 0, 1 (not checked), 2 (corrupt), 3 (leaks only), 63 (the format has no
 * check), as qemu-img has them.
 */
export async function check(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'check',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'repair', short: 'r', long: 'repair', argument: true },
        { name: 'cache', short: 'T', argument: true },
        { name: 'quiet', short: 'q' },
        { name: 'progress', short: 'p', own: true },
        { name: 'deep', long: 'deep', own: true },
        { name: 'strict', long: 'strict', own: true },
        FOLLOW,
      ],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const output = line.output();
  requireCacheMode(line.value('cache'), 1);
  const follow = line.follow() ?? 'all';
  const repair = repairMode(line.value('repair'));
  const image = line.image(0);
  const quiet = line.has('quiet');
  if (repair !== null) {
    return repairThenConclude(repair, line, { image, output, quiet, strict: line.has('strict') }, context);
  }
  const chain = await openForCheck(image, follow);
  const progress = new ProgressLine(output === 'json' ? context.err : context.out, context.err, line.has('progress') && !quiet);
  try {
    const report = await runCheck(chain, line.has('deep'), progress);
    progress.end();
    return conclude(report, { image, output, quiet, strict: line.has('strict') }, context);
  } catch (error) {
    progress.end();
    throw error;
  } finally {
    chain.close();
  }
}

function repairMode(repair: string | null): 'leaks' | 'all' | null {
  if (repair !== null && repair !== 'leaks' && repair !== 'all') {
    throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`);
  }
  return repair;
}

/** `-r`: what was found and repaired, and what a second check says. */
async function repairThenConclude(
  repair: 'leaks' | 'all',
  line: CommandLine,
  presentation: Presentation,
  context: Context,
): Promise<number> {
  const { image, output, quiet } = presentation;
  if (image.forceShare) {
    throw new CommandError(`Could not open '${image.argument}': force-share=on can only be used with read-only images`);
  }
  const progress = new ProgressLine(output === 'json' ? context.err : context.out, context.err, line.has('progress') && !quiet);
  try {
    const { repairImage } = await import('../../engine/manage/repair');
    const { before, after } = await repairImage(
      managedFile(image),
      repair,
      { deep: line.has('deep'), maxFindings: MAX_FINDINGS },
      { ...manageContext(line, image, context), onProgress: progress.report },
    );
    progress.end();
    if (after === null) {
      return conclude(before, presentation, context);
    }
    context.err.write(findingLines(before));
    const { leaksFixed, corruptionsFixed } = after.counts;
    if (output === 'human' && !quiet && leaksFixed + corruptionsFixed > 0) {
      context.out.write(
        'The following inconsistencies were found and repaired:\n\n' +
          `    ${leaksFixed} leaked clusters\n    ${corruptionsFixed} corruptions\n\nDouble checking the fixed image now...\n`,
      );
    }
    return conclude(after, presentation, context);
  } catch (error) {
    progress.end();
    throw error instanceof EngineError && error.message === 'This image format does not support checks'
      ? unsupported(error.message)
      : error;
  }
}

/** The image, its data file, and its chain as far as it is there: only the image's own files are needed. */
async function openForCheck(image: ImageArgument, follow: Follow): Promise<OpenedChain> {
  if (image.format === 'luks') {
    throw unsupported('This image format does not support checks');
  }
  const chain = await openToInspect(image, image.format, follow);
  try {
    const own = chain.layers.slice(0, 1);
    const dataFile = chain.links[1]?.role === 'data-file' ? chain.links[1] : undefined;
    if (dataFile && dataFile.state.kind !== 'open' && follow !== 'none') {
      throw linkError(dataFile);
    }
    const { detail } = own[0]!;
    if (detail.format === 'qcow2') {
      requireLuksHeader(detail.metadata);
      if (follow !== 'none') {
        requireDataFileName(detail.metadata);
      }
    }
    if (!image.forceShare) {
      lockForReading(own);
    }
    return chain;
  } catch (error) {
    chain.close();
    throw error;
  }
}

async function runCheck(chain: OpenedChain, deep: boolean, progress: ProgressLine): Promise<CheckReport> {
  const { source, detail } = chain.layers[0]!;
  if (detail.format === 'raw' || detail.format === 'vmdk') {
    throw unsupported(
      detail.format === 'raw' ? 'This image format does not support checks' : 'VMDK images cannot be checked by this version',
    );
  }
  const loop = chain.links.find(({ state }) => state.kind === 'loop');
  progress.begin();
  const report = await checkImage(source, detail.format, {
    deep,
    maxFindings: MAX_FINDINGS,
    dataFile: detail.format === 'qcow2' ? detail.dataFile : null,
    chainLoop: loop ? { path: loop.path ?? loop.recordedName } : null,
    onProgress: progress.report,
  });
  progress.complete();
  return report;
}

interface Presentation {
  readonly image: ImageArgument;
  readonly output: 'human' | 'json';
  readonly quiet: boolean;
  readonly strict: boolean;
}

function conclude(report: CheckReport, { image, output, quiet, strict }: Presentation, { out, err }: Context): number {
  err.write(findingLines(report));
  if (report.failure !== null) {
    throw new CommandError(`Check failed: ${report.failure}`, 1);
  }
  if (!quiet) {
    out.write(output === 'json' ? `${prettyJson(checkJson(report, image.argument))}\n` : checkText(report));
  }
  if (report.counts.checkErrors > 0) {
    throw new CommandError('Check failed', 1);
  }
  return strict ? report.strictExitCode : report.exitCode;
}

function unsupported(message: string): CommandError {
  return new CommandError(message, EXIT_UNSUPPORTED);
}
