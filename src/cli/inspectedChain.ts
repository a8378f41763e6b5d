import { openChain } from '../engine/chain/openChain';
import type { OpenedChain } from '../engine/chain/layer';
import { followGate, type Follow } from '../engine/gate/policies';
import { Inspector } from '../engine/inspect/inspector';
import type { CommandLine } from './commandLine';
import { CommandError } from './errors';
import { fileNameFor, lockForReading, WAITING } from './guestChain';
import type { ImageArgument } from './imageArguments';

/**
 * Opens an image for looking at, however damaged, does something with it and closes it.
 * @throws EngineError, CommandError when not even that is possible
 */
export async function withInspector<T>(
  line: CommandLine,
  follow: Follow,
  use: (inspector: Inspector, chain: OpenedChain) => Promise<T>,
): Promise<T> {
  const image = line.image(0);
  if (image.format === 'luks') {
    throw new CommandError(`Could not open '${image.argument}': LUKS volumes are not read by this version`);
  }
  const chain = await openToInspect(image, image.format, follow);
  try {
    if (!image.forceShare) {
      lockForReading(chain.layers);
    }
    return await use(new Inspector(chain), chain);
  } finally {
    chain.close();
  }
}

/**
 * Opens the chain of an image as far as it is there, waiting for servers.
 * @param format as the person said it; null: by its first bytes
 * @throws EngineError
 */
export function openToInspect(
  image: ImageArgument,
  format: Exclude<ImageArgument['format'], 'luks'>,
  follow: Follow,
): Promise<OpenedChain> {
  return openChain(fileNameFor(image), {
    currentFolder: process.cwd(),
    format: format === 'file' ? 'raw' : format,
    gate: followGate(follow),
    open: WAITING,
    // Who else uses the files is found out when they are locked.
    locks: null,
  });
}
