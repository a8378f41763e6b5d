import type { OpeningGate } from '../gate/gate';
import { resolveName, stripFilePrefix } from '../gate/filename';
import { jsonFileName } from '../gate/jsonName';
import { EngineError, unsupported } from '../errors';
import type { RemoteName } from '../gate/remoteName';
import type { ByteSource } from '../io/source';
import { realPath } from '../io/realPath';
import { readImageInfo, type ImageInfo, type InfoFormat, type InfoOptions } from './imageInfo';

export interface ChainInfo {
  /** The image first, its base last. */
  readonly images: readonly ImageInfo[];
  /** Name of the backing file that the gate kept closed; null when the chain is whole. */
  readonly refused: string | null;
}

export interface ChainInfoOptions extends InfoOptions {
  readonly gate: OpeningGate;
  /** The server that the image itself lies on, if it does. */
  readonly remote: RemoteName | null;
  /** Opens (and locks) a file of the chain, or what lies on a server; it is closed when its information is read. */
  readonly open: (path: string, name: string, format: InfoFormat | null, remote: RemoteName | null) => ByteSource;
}

/** An image on its way to being read. */
interface NextImage {
  /** Null for what lies on a server. */
  readonly path: string | null;
  readonly remote: RemoteName | null;
  readonly filename: string;
  readonly fileName: string;
  readonly format: InfoFormat | null;
}

/**
 * The information of an image and of every image below it, as `qemu-img info --backing-chain` collects it: each by its header alone.
 * @throws EngineError as `readImageInfo`, for any link; `chain.loop`
 */
export async function readChainInfo(options: ChainInfoOptions): Promise<ChainInfo> {
  const images: ImageInfo[] = [];
  const visited = new Set<string>();
  let next: NextImage = { ...options, path: options.remote ? null : options.fileName };
  while (true) {
    const own = next.path === null ? next.filename : absolute(next.path, options.currentFolder);
    const identity = next.path === null ? own : realPath(own);
    if (visited.has(identity)) {
      throw new EngineError('chain.loop', `Backing file '${next.fileName}' creates an infinite loop.`, { file: next.fileName });
    }
    visited.add(identity);
    const info = readOne(next, options);
    images.push(info);
    if (info.backingFilename === undefined) {
      return { images, refused: null };
    }
    const named = resolveName(info.backingFilename, {
      imageFilename: next.fileName,
      role: 'backing',
      currentFolder: options.currentFolder,
    });
    const decision = await options.gate.decide({
      image: own,
      role: 'backing',
      recordedName: info.backingFilename,
      path: named.realPath,
      protocol: named.protocol,
      address: named.remote?.filename ?? null,
    });
    const path = decision.allowed ? (decision.replacement ?? named.path) : null;
    const remote = decision.allowed && decision.replacement === undefined ? named.remote : null;
    if (path === null && remote === null) {
      if (!decision.allowed && decision.reason === 'notFollowed') {
        return { images, refused: named.filename };
      }
      throw new EngineError('chain.refused', `Could not open '${named.filename}': Its protocol cannot be read by this version`, {
        file: next.fileName,
      });
    }
    // A JSON description that is no more than a file goes by that file's name.
    const fileName =
      remote?.filename ?? stripFilePrefix((named.protocol === 'json' ? jsonFileName(info.backingFilename) : null) ?? named.filename);
    next = { path, remote, fileName, filename: fileName, format: backingFormat(info.backingFilenameFormat, info.filename) };
  }
}

function readOne(image: NextImage, options: ChainInfoOptions): ImageInfo {
  const source = options.open(image.path ?? image.fileName, image.fileName, image.format, image.remote);
  try {
    return readImageInfo(source, { ...options, filename: image.filename, fileName: image.fileName, format: image.format });
  } finally {
    source.close();
  }
}

const FORMATS: readonly InfoFormat[] = ['qcow2', 'qed', 'vmdk', 'raw', 'luks', 'file'];

function backingFormat(name: string | undefined, image: string): InfoFormat | null {
  const format = FORMATS.find((known) => known === name);
  if (name !== undefined && format === undefined) {
    throw unsupported(image, 'backing format', 0, `The backing file's format '${name}' cannot be read by this version.`);
  }
  return format ?? null;
}

function absolute(path: string, currentFolder: string): string {
  return path.startsWith('/') ? path : `${currentFolder}/${path}`;
}
