import * as fs from 'node:fs';

import { EngineError } from '../../engine/errors';
import type { RemoteName } from '../../engine/gate/remoteName';
import { followGate } from '../../engine/gate/policies';
import { readChainInfo } from '../../engine/info/backingChain';
import { probeInfoFormat, readImageInfo, type ImageInfo, type InfoFormat, type InfoOptions } from '../../engine/info/imageInfo';
import { FileSource } from '../../engine/io/file';
import { BlockingSource } from '../../engine/io/remote/blockingSource';
import { acquireLocks } from '../../engine/io/imageLocks';
import { CommandLine, FOLLOW, FORMAT, OUTPUT, warn, type Context } from '../commandLine';
import { infoText } from '../infoText';
import { infoJson } from '../infoJson';
import { prettyJson } from '../json';

/** `info`: what an image is. Exit code 0, or 1 when it (or with `--backing-chain` any image below it) does not open. */
export async function info(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'info',
      options: [FORMAT, OUTPUT, { name: 'backing-chain', long: 'backing-chain' }, FOLLOW],
      operands: [1, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const output = line.output();
  const follow = line.follow();
  const wholeChain = line.has('backing-chain');
  const image = line.image(0);
  const open = (path: string, name: string, format: InfoFormat | null, remote: RemoteName | null) =>
    remote ? BlockingSource.open(remote.recorded) : openLocked(path, name, format, image.forceShare);
  const options: InfoOptions = {
    ...image,
    currentFolder: process.cwd(),
    // Without being told to follow, this command opens no file but the image.
    further: follow === 'none' ? undefined : { allocated: allocatedOf, open: wholeChain || follow !== null ? openExtent : () => null },
  };

  if (!wholeChain) {
    const source = open(image.fileName, image.fileName, image.format, image.remote);
    try {
      const found = readImageInfo(source, options);
      context.out.write(output === 'json' ? `${prettyJson(infoJson(found))}\n` : infoText(found));
    } finally {
      source.close();
    }
    return 0;
  }
  const chain = await readChainInfo({ ...options, open, remote: image.remote, gate: followGate(follow ?? 'all') });
  context.out.write(output === 'json' ? `${prettyJson(chain.images.map(infoJson))}\n` : chainText(chain.images));
  if (chain.refused !== null) {
    warn(context, `'${chain.refused}' was not followed (--follow ${String(follow)})`);
  }
  return 0;
}

function chainText(images: readonly ImageInfo[]): string {
  return images.map(infoText).join('\n');
}

function openLocked(path: string, name: string, format: InfoFormat | null, forceShare: boolean): FileSource {
  const file = FileSource.open(path, name);
  try {
    if (!forceShare) {
      const data = format ?? probeInfoFormat(file);
      acquireLocks([{ file, role: data === 'raw' || data === 'file' ? 'raw' : 'metadata' }]);
    }
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

function openExtent(path: string): FileSource | null {
  try {
    return FileSource.open(path);
  } catch (error) {
    if (error instanceof EngineError && error.code !== 'file.io') {
      // What cannot be looked at is left out; the image itself can be described without.
      return null;
    }
    throw error;
  }
}

/** Asks the folder, not the file: nothing is opened because an image names it. */
function allocatedOf(path: string): number | null {
  try {
    return fs.statSync(path).blocks * 512;
  } catch {
    // Missing or out of reach: it then counts for nothing.
    return null;
  }
}
