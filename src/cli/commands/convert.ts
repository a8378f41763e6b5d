import * as fs from 'node:fs';

import { EngineError, isCancelled } from '../../engine/errors';
import { protocolOf } from '../../engine/gate/filename';
import { convertImage, isSparseSize, MOST_SPARSE, type ConvertRequest } from '../../engine/manage/convert';
import { DEFAULT_COROUTINES, DEFAULT_SPARSE } from '../../engine/manage/copy/copyDisk';
import type { SourceFile } from '../../engine/manage/copy/openInput';
import { knownFormat } from '../../engine/manage/formats';
import { CommandLine, isDurable, requireCacheMode, requireTargetCacheMode, warn, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { asksForHelp, printCreateOptions, readFormatOptions, readRate, readSizeArgument } from '../formatOptions';
import { resolveImageArgument, type ImageArgument } from '../imageArguments';
import { interruptible } from '../interruption';
import { manageContext, managedFile } from '../managing';
import { ProgressLine } from '../progress';
import { readSnapshotSelector } from '../snapshotSelector';

const MOST_COROUTINES = 16;

/** `convert`: copies what a guest reads from one or several images into another. Exit code 0, 1, or 130 when it was interrupted. */
export async function convert(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'convert',
      options: [
        { name: 'format', short: 'f', argument: true },
        { name: 'target-format', short: 'O', argument: true },
        { name: 'backing', short: 'B', argument: true },
        { name: 'backing-format', short: 'F', long: 'backing-format', argument: true },
        { name: 'copy-range', short: 'C' },
        { name: 'compressed', short: 'c' },
        { name: 'options', short: 'o', argument: true },
        { name: 'snapshot', short: 'l', argument: true },
        { name: 'sparse', short: 'S', argument: true },
        { name: 'progress', short: 'p' },
        { name: 'quiet', short: 'q' },
        { name: 'no-create', short: 'n' },
        { name: 'target-cache', short: 't', argument: true },
        { name: 'source-cache', short: 'T', argument: true },
        { name: 'coroutines', short: 'm', argument: true },
        { name: 'out-of-order', short: 'W' },
        { name: 'rate', short: 'r', long: 'rate-limit', argument: true },
        { name: 'salvage', long: 'salvage' },
        { name: 'bitmaps', long: 'bitmaps' },
        { name: 'skip-broken-bitmaps', long: 'skip-broken-bitmaps' },
        { name: 'target-is-zero', long: 'target-is-zero' },
        { name: 'target-image-opts', long: 'target-image-opts' },
      ],
      operands: [0, Infinity],
      expecting: '',
    },
    args,
    context,
  );
  const sparseBytes = readSparse(line, context);
  const coroutines = readCoroutines(line.value('coroutines'));
  const speed = readRate(line, context);
  const snapshot = readSnapshotSelector(line.value('snapshot'));
  const lists = line.all('options');
  requireTogether(line);
  const sources = line.operands.slice(0, -1);
  const target = line.operands.at(-1);
  const formatName = line.value('target-format');
  if (asksForHelp(lists)) {
    return printCreateOptions(formatName ?? 'raw', target !== undefined, context);
  }
  const options = readFormatOptions(lists);
  if (target === undefined || sources.length === 0) {
    throw new CommandError('Must specify image file name');
  }
  if (sources.length > 1 && (line.has('backing') || options['backing_file'] !== undefined)) {
    throw new CommandError('Having a backing file for the target makes no sense when concatenating multiple input images');
  }
  if (line.has('bitmaps') && sources.length > 1) {
    throw new CommandError('Copying bitmaps only possible with single source');
  }
  requireCacheMode(line.value('source-cache'), 1);
  requireTargetCacheMode(line.value('target-cache'));
  const create = !line.has('no-create');
  const images = sources.map((_, index) => line.image(index));
  const targetImage = create ? null : targetOf(line, target, context);
  const request: ConvertRequest = {
    sources: images.map((image) => sourceFile(line, image, context)),
    snapshot,
    target: targetImage ? managedFile(targetImage).filename : target,
    format: targetImage ? managedFile(targetImage).format : (formatName ?? 'raw'),
    create,
    options,
    backing: { name: line.value('backing'), format: line.value('backing-format') },
    compressed: line.has('compressed'),
    sparseBytes,
    targetIsZero: line.has('target-is-zero'),
    speed,
    coroutines,
    outOfOrder: line.has('out-of-order'),
    salvage: line.has('salvage'),
    bitmaps: line.has('bitmaps') ? { skipBroken: line.has('skip-broken-bitmaps') } : null,
    durable: isDurable(line.value('target-cache') ?? 'unsafe'),
  };
  if (create) {
    // A format that there is none of is said before the sources are opened.
    knownFormat(formatName ?? 'raw');
  }
  const quiet = line.has('quiet');
  const progress = new ProgressLine(context.out, context.err, line.has('progress') && !quiet);
  const made = create && protocolOf(target) === null && !fs.existsSync(target);
  try {
    await interruptible(made ? 'the new image is removed.' : `'${target}' is incomplete.`, async (signal) => {
      progress.begin();
      try {
        await convertImage(request, {
          ...manageContext(line, images[0]!, context),
          signal,
          secretOf: line.secretOf,
          targetPassphraseOf: targetImage ? manageContext(line, targetImage, context).passphraseOf : undefined,
          onProgress: progress.report,
          onUnreadable: (offset, error) => {
            if (!quiet) {
              warn(context, `error while reading offset ${offset}: ${error.message}`);
            }
          },
          onSkippedBitmap: (name) => {
            warn(context, `Skipping inconsistent bitmap '${name}'`);
          },
        });
      } catch (error) {
        if (made && isCancelled(error)) {
          fs.rmSync(target, { force: true });
        }
        throw error;
      }
    });
    progress.complete();
  } catch (error) {
    throw error instanceof EngineError ? CommandError.from(error, 1) : error;
  } finally {
    progress.end();
  }
  return 0;
}

function sourceFile(line: CommandLine, image: ImageArgument, context: Context): SourceFile {
  return { ...managedFile(image), forceShare: image.forceShare, passphraseOf: manageContext(line, image, context).passphraseOf };
}

function targetOf(line: CommandLine, target: string, context: Context): ImageArgument {
  const imageOpts = line.has('target-image-opts');
  return resolveImageArgument(target, {
    format: imageOpts ? null : (line.value('target-format') ?? 'raw'),
    imageOpts,
    forceShare: false,
    warn: (message) => warn(context, message),
  });
}

/** @throws CommandError for options that exclude each other, in qemu-img's words */
function requireTogether(line: CommandLine): void {
  const create = !line.has('no-create');
  if (line.has('copy-range')) {
    const against = [
      ['compressed', 'Cannot enable copy offloading when -c is used'],
      ['sparse', 'Cannot enable copy offloading when -S is used'],
      ['salvage', 'Cannot use copy offloading in salvaging mode'],
    ] as const;
    const found = against.find(([option]) => line.has(option));
    if (found) {
      throw new CommandError(found[1]);
    }
  }
  if (line.has('target-image-opts') && create) {
    throw new CommandError('--target-image-opts requires use of -n flag');
  }
  if (line.has('skip-broken-bitmaps') && !line.has('bitmaps')) {
    throw new CommandError('Use of --skip-broken-bitmaps requires --bitmaps');
  }
  if (!create && line.has('options')) {
    throw new CommandError('-o has no effect when skipping image creation');
  }
  if (line.has('target-is-zero') && create) {
    throw new CommandError('--target-is-zero requires use of -n flag');
  }
}

function readSparse(line: CommandLine, context: Context): number {
  const text = line.value('sparse');
  if (text === null) {
    return DEFAULT_SPARSE;
  }
  const bytes = readSizeArgument(text, 'buffer size for sparse output', context.program);
  if (!isSparseSize(bytes)) {
    throw new CommandError(
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ${MOST_SPARSE}. ` +
        'Select 0 to disable sparse detection (fully allocates output).',
    );
  }
  return bytes;
}

function readCoroutines(text: string | null): number {
  const count = text === null ? DEFAULT_COROUTINES : /^\s*\+?\d+$/.test(text) ? Number(text) : 0;
  if (count < 1 || count > MOST_COROUTINES) {
    throw new CommandError(`Invalid number of coroutines. Allowed number of coroutines is between 1 and ${MOST_COROUTINES}`);
  }
  return count;
}
