import { listExports, type ListedExport } from '../../engine/nbd/client/listExports';
import { definedCredentials } from '../../engine/nbd/client/tlsCredentials';
import { TRANSMISSION_FLAG } from '../../engine/nbd/protocol';
import type { NbdSocket } from '../../engine/io/remote/address';
import type { CommandLine, Context } from '../commandLine';
import { CommandError } from '../errors';

/** Options that say how one image is served. */
const PER_DEVICE = [
  'export-name',
  'description',
  'format',
  'load-snapshot',
  'bitmap',
  'allocation-depth',
  'aio',
  'discard',
  'cache',
  'nocache',
];

/** qemu-nbd's words for them, in its order. */
const FLAG_WORDS = [
  [TRANSMISSION_FLAG.readOnly, 'readonly'],
  [TRANSMISSION_FLAG.sendFlush, 'flush'],
  [TRANSMISSION_FLAG.sendFua, 'fua'],
  [1 << 4, 'rotational'],
  [TRANSMISSION_FLAG.sendTrim, 'trim'],
  [TRANSMISSION_FLAG.sendWriteZeroes, 'zeroes'],
  [TRANSMISSION_FLAG.sendDf, 'df'],
  [TRANSMISSION_FLAG.canMultiConn, 'multi'],
  [1 << 9, 'resize'],
  [TRANSMISSION_FLAG.sendCache, 'cache'],
  [TRANSMISSION_FLAG.sendFastZero, 'fast-zero'],
] as const;

/** `nbd --list`: what a server offers, as `qemu-nbd --list` 7.2 prints it. */
export async function nbdList(line: CommandLine, socket: NbdSocket, { out }: Context): Promise<number> {
  if (line.operands.length > 0) {
    throw new CommandError('List mode is incompatible with a file name');
  }
  if (PER_DEVICE.some((option) => line.has(option))) {
    throw new CommandError('List mode is incompatible with per-device settings');
  }
  if (line.has('fork')) {
    throw new CommandError('List mode is incompatible with forking');
  }
  const id = line.value('tls-creds');
  const credentials = id === null ? undefined : definedCredentials(id);
  if (credentials === null) {
    throw new CommandError(`No TLS credentials with id '${String(id)}'`);
  }
  const hostname = line.value('tls-hostname');
  const tls = credentials && hostname !== null ? { ...credentials, hostname } : credentials;
  const exports = await listExports({ socket, tls: tls !== undefined }, { tls });
  out.write(`exports available: ${exports.length}\n${exports.map(describe).join('')}`);
  return 0;
}

function describe({ name, description, size, flags, blocks, contexts }: ListedExport): string {
  const words = FLAG_WORDS.filter(([flag]) => (flags & flag) !== 0).map(([, word]) => `${word} `);
  const hasFlags = (flags & TRANSMISSION_FLAG.hasFlags) !== 0;
  const lines = [
    ` export: '${name}'`,
    ...(description === '' ? [] : [`  description: ${description}`]),
    ...(hasFlags ? [`  size:  ${size}`, `  flags: 0x${flags.toString(16)} ( ${words.join('')})`] : []),
    ...(blocks ? [`  min block: ${blocks[0]}`, `  opt block: ${blocks[1]}`, `  max block: ${blocks[2]}`] : []),
    ...(contexts.length === 0 ? [] : [`  available meta contexts: ${contexts.length}`, ...contexts.map((context) => `   ${context}`)]),
  ];
  return lines.map((text) => `${text}\n`).join('');
}
