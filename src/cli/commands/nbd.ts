import { writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';

import { BlockGraph } from '../../engine/block/graph/blockGraph';
import type { OpenedImage } from '../../engine/block/graph/openedImage';
import type { Layer } from '../../engine/chain/layer';
import { EngineError } from '../../engine/errors';
import type { DetectZeroes, NbdExport } from '../../engine/exports/nbdExport';
import { NbdServer, type NbdAddress } from '../../engine/exports/nbdServer';
import { storedBitmap } from '../../engine/exports/storedBitmap';
import { SECTOR_SIZE } from '../../engine/formats/raw/size';
import { followGate } from '../../engine/gate/policies';
import { removeFile } from '../../engine/io/fileStorage';
import { snapshotViewOf, type SnapshotSelector } from '../../engine/manage/copy/openInput';
import type { LayerView } from '../../protocol/place';
import { CommandLine, FORMAT, isDurable, requireCacheMode, warn, type Context } from '../commandLine';
import { announceReady, forkServer } from '../daemon';
import { CommandError, UsageError } from '../errors';
import { managedFile, manageContext } from '../managing';
import { readSnapshotSelector } from '../snapshotSelector';
import { nbdList } from './nbdList';

const DEFAULT_PORT = 10809;

/** `nbd`: serves an image to NBD clients, with qemu-nbd's options. Without `-b` only this machine can reach it. */
export async function nbd(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'nbd',
      options: [
        FORMAT,
        { name: 'read-only', short: 'r', long: 'read-only' },
        { name: 'list', short: 'L', long: 'list' },
        { name: 'load-snapshot', short: 'l', long: 'load-snapshot', argument: true },
        { name: 'persistent', short: 't', long: 'persistent' },
        { name: 'socket', short: 'k', long: 'socket', argument: true },
        { name: 'port', short: 'p', long: 'port', argument: true },
        { name: 'bind', short: 'b', long: 'bind', argument: true },
        { name: 'shared', short: 'e', long: 'shared', argument: true },
        { name: 'export-name', short: 'x', long: 'export-name', argument: true },
        { name: 'description', short: 'D', long: 'description', argument: true },
        { name: 'allocation-depth', short: 'A', long: 'allocation-depth' },
        { name: 'bitmap', short: 'B', long: 'bitmap', argument: true },
        { name: 'fork', long: 'fork' },
        { name: 'pid-file', long: 'pid-file', argument: true },
        { name: 'verbose', short: 'v', long: 'verbose' },
        { name: 'tls-creds', long: 'tls-creds', argument: true },
        { name: 'tls-hostname', long: 'tls-hostname', argument: true },
        { name: 'cache', long: 'cache', argument: true },
        { name: 'nocache', short: 'n', long: 'nocache' },
        { name: 'aio', long: 'aio', argument: true },
        { name: 'discard', long: 'discard', argument: true },
        { name: 'copy-on-read', long: 'copy-on-read', own: true },
        { name: 'detect-zeroes', long: 'detect-zeroes', argument: true },
      ],
      operands: [0, 1],
      expecting: 'Expecting one image file name',
    },
    args,
    context,
  );
  const settings = readSettings(line);
  if (line.has('list')) {
    const { address } = settings;
    return nbdList(line, address.kind === 'unix' ? { type: 'unix', path: address.path } : { ...address, type: 'inet' }, context);
  }
  if (line.has('tls-hostname')) {
    throw new CommandError('--tls-hostname is only for --list');
  }
  if (line.operands.length === 0) {
    throw new UsageError('Expecting one image file name');
  }
  if (line.has('fork')) {
    return forkServer(args, context);
  }
  // What a request needs is given up with it: more room for young objects would make nothing faster, and the process far larger.
  setFlagsFromString('--semi-space-growth-factor=1');
  const image = await open(line, settings, context);
  try {
    if (line.has('copy-on-read')) {
      image.node.setCopyOnRead({ bottom: null, onError: tellOnce(context) });
    }
    await serve(image, line, settings);
  } finally {
    await image.close();
  }
  return 0;
}

interface Settings {
  readonly readOnly: boolean;
  readonly address: NbdAddress;
  readonly allowRemote: boolean;
  readonly maxClients: number;
  readonly discard: 'unmap' | 'ignore';
  readonly detectZeroes: DetectZeroes;
  /** QEMU's cache mode. */
  readonly cache: string;
}

function readSettings(line: CommandLine): Settings {
  requireCacheMode(line.value('cache'), 1);
  const discard = readDiscard(line.value('discard'));
  const detectZeroes = readDetectZeroes(line.value('detect-zeroes'));
  if (detectZeroes === 'unmap' && discard !== 'unmap') {
    throw new CommandError('setting detect-zeroes to unmap is not allowed without setting discard operation to unmap');
  }
  if (line.has('copy-on-read') && line.has('read-only')) {
    throw new CommandError("Can't use copy-on-read on read-only device");
  }
  const socket = line.value('socket');
  if (socket !== null && !socket.startsWith('/')) {
    throw new CommandError('socket path must be absolute');
  }
  return {
    // A snapshot is what it was.
    readOnly: line.has('read-only') || line.has('load-snapshot'),
    address:
      socket === null ? { kind: 'tcp', host: line.value('bind') ?? '127.0.0.1', port: readPort(line) } : { kind: 'unix', path: socket },
    // Who names the address wants to be reached there.
    allowRemote: line.has('bind'),
    maxClients: readNumber(line, 'shared', 1, 'Invalid shared device number'),
    discard,
    detectZeroes,
    cache: line.value('cache') ?? 'writeback',
  };
}

function readPort(line: CommandLine): number {
  const port = readNumber(line, 'port', DEFAULT_PORT, 'Invalid port');
  if (port < 1 || port > 65535) {
    throw new CommandError('Port out of range');
  }
  return port;
}

function readNumber(line: CommandLine, option: string, standard: number, message: string): number {
  const text = line.value(option);
  const number = text === null ? standard : Number(text);
  if (text === '' || !Number.isInteger(number) || number < 0) {
    throw new CommandError(`${message} '${text}'`);
  }
  return number;
}

function readDiscard(mode: string | null): 'unmap' | 'ignore' {
  switch (mode) {
    case 'unmap':
    case 'on':
      return 'unmap';
    case null:
    case 'ignore':
    case 'off':
      return 'ignore';
    default:
      throw new CommandError(`Failed to parse discard mode '${mode}'`);
  }
}

function readDetectZeroes(mode: string | null): DetectZeroes {
  switch (mode) {
    case null:
      return 'off';
    case 'off':
    case 'on':
    case 'unmap':
      return mode;
    default:
      throw new CommandError(`Failed to parse detect_zeroes mode: invalid parameter value: ${mode}`);
  }
}

async function open(line: CommandLine, { readOnly, cache }: Settings, context: Context): Promise<OpenedImage> {
  const argument = line.image(0);
  const { filename, format } = managedFile(argument);
  const snapshot = readSnapshotSelector(line.value('load-snapshot'));
  const graph = new BlockGraph({
    gate: followGate('all'),
    currentFolder: process.cwd(),
    onCacheProblem: (cache, problem) => {
      warn(context, `The cache image '${cache}' does not grow any more: ${problem instanceof Error ? problem.message : String(problem)}`);
    },
  });
  const { passphraseOf, onProbedRaw } = manageContext(line, argument, context);
  try {
    const image = await graph.open(filename, {
      format,
      readOnly,
      view: snapshot ? (layer) => chosenView(layer, snapshot) : undefined,
      user: 'the NBD export',
      warmCaches: !argument.forceShare,
      forceShare: readOnly && argument.forceShare,
      durable: isDurable(cache),
      passphraseOf,
    });
    if (format === null && image.node.driver === 'raw' && !readOnly) {
      onProbedRaw?.(filename);
    }
    return image;
  } catch (error) {
    if (error instanceof EngineError) {
      const message = `Failed to blk_new_open '${argument.argument}': ${error.message}`;
      throw new CommandError(message, 1, error.place.remedy ?? null, error);
    }
    throw error;
  }
}

/** The guest has its bytes whatever becomes of the copies: that is worth one line. */
function tellOnce(context: Context): (error: unknown) => void {
  let told = false;
  return (error) => {
    if (!told) {
      told = true;
      warn(context, `What is read is not copied any more: ${error instanceof Error ? error.message : String(error)}`);
    }
  };
}

function chosenView(layer: Layer, snapshot: SnapshotSelector): LayerView {
  try {
    return snapshotViewOf(layer, snapshot);
  } catch (error) {
    throw CommandError.from(error, 1);
  }
}

async function serve(image: OpenedImage, line: CommandLine, settings: Settings): Promise<void> {
  const { readOnly, address, allowRemote, maxClients, discard, detectZeroes, cache } = settings;
  const bitmap = line.value('bitmap');
  const offered: NbdExport = {
    name: line.value('export-name') ?? '',
    description: line.value('description') ?? '',
    node: image.node,
    readOnly,
    allocationDepth: line.has('allocation-depth'),
    bitmaps: bitmap === null ? [] : [storedBitmap(image.node, bitmap)],
    // A client with several connections would wait for itself.
    multiConn: maxClients !== 1,
    // As QEMU has it where the format was guessed: clients write whole sectors.
    leastBlock: image.node.driver === 'raw' && managedFile(line.image(0)).format === null ? SECTOR_SIZE : 1,
    discard,
    detectZeroes,
    writethrough: cache === 'writethrough' || cache === 'directsync',
  };
  const pidFile = line.value('pid-file');
  const credentials = line.value('tls-creds');
  const tls = credentials === null ? undefined : line.tlsCredentialsOf(credentials);
  const server = await NbdServer.listen({
    exports: [offered],
    address,
    allowRemote,
    maxClients,
    ...(tls
      ? { tls: { ca: Buffer.from(tls.ca), cert: Buffer.from(tls.cert), key: Buffer.from(tls.key) }, verifyClients: tls.verifyPeer }
      : {}),
  });
  try {
    const ended = end(server, line.has('persistent'));
    if (pidFile !== null) {
      writePid(pidFile);
    }
    announceReady();
    await ended;
  } finally {
    await server.close();
    if (pidFile !== null) {
      removeFile(pidFile);
    }
  }
}

/** A signal, or the last client's leaving. */
function end(server: NbdServer, persistent: boolean): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.once(signal, () => {
        resolve();
      });
    }
    if (!persistent) {
      let served = false;
      server.onDidChangeClients(() => {
        const { clients } = server;
        served ||= clients.some(({ exportName }) => exportName !== null);
        if (served && clients.length === 0) {
          resolve();
        }
      });
    }
  });
}

function writePid(path: string): void {
  try {
    writeFileSync(path, `${process.pid}\n`);
  } catch (cause) {
    throw new CommandError(`cannot create PID file: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}
