import type { Duplex } from 'node:stream';

import type { ByteQueue } from '../../exports/byteQueue';
import {
  CONTEXT,
  HANDSHAKE_FLAG,
  INFO,
  INIT_MAGIC,
  MAX_PAYLOAD,
  OPTION,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  TRANSMISSION_FLAG,
  uint16,
  uint32,
} from '../protocol';
import { ConnectionLost, printable, ProtocolViolation } from './failures';

/** What the server told of an export. */
export interface ExportInfo {
  /** Bytes. */
  readonly size: number;
  /** Bits of `TRANSMISSION_FLAG`. */
  readonly flags: number;
  /** Bytes: what offsets and lengths are multiples of, what they best are, and the most in one request. */
  readonly minimumBlock: number;
  readonly preferredBlock: number;
  readonly maximumBlock: number;
  readonly structuredReplies: boolean;
  /** The metadata contexts that the server offers of those we know, by name. */
  readonly contexts: ReadonlyMap<string, number>;
}

/** The server knows the export and refuses it, or has none of that name; another try would not mend it. */
export class Refused extends Error {
  override readonly name = 'Refused';
}

/** Bytes of an answer; more than anything that is asked for needs. */
const MAX_REPLY = 64 * 1024;
/** An export has so many answers to tell of itself, and no more. */
const MAX_REPLIES = 100;
/** It has so many metadata contexts, a bitmap each, and no more. */
const MAX_CONTEXTS = 1000;
/** A server has so many exports to list, and no more. */
const MAX_EXPORTS = 10_000;
const TLS_REQUIRED = 'The server requires TLS.';
const ERROR_BIT = 0x80000000;

/** What the server told of an export, word for word. */
export interface Description {
  /** Bytes. */
  readonly size: number;
  /** Bits of `TRANSMISSION_FLAG`. */
  readonly flags: number;
  /** Minimum, preferred, maximum in bytes; null when the server does not say. */
  readonly blocks: readonly [number, number, number] | null;
}

interface Reply {
  readonly type: number;
  readonly data: Buffer;
}

/** The client's side of the fixed newstyle handshake (the NBD project's doc/proto.md). */
export class Negotiation {
  private readonly input: ByteQueue;
  private readonly socket: Duplex;

  constructor(input: ByteQueue, socket: Duplex) {
    this.input = input;
    this.socket = socket;
  }

  /** @throws ProtocolViolation, ConnectionLost */
  async greet(): Promise<void> {
    const greeting = await this.take(16);
    if (greeting.readBigUInt64BE(0) !== INIT_MAGIC) {
      throw new ProtocolViolation('The server does not speak NBD.');
    }
    if (greeting.readBigUInt64BE(8) !== OPTION_MAGIC) {
      throw new ProtocolViolation('The server speaks an NBD of before 2009.');
    }
    const flags = (await this.take(2)).readUInt16BE(0);
    if ((flags & HANDSHAKE_FLAG.fixedNewstyle) === 0) {
      throw new ProtocolViolation('The server speaks an NBD without options.');
    }
    const answer = Buffer.alloc(4);
    // Without the zeroes that once filled an answer; an older server does not know the flag.
    answer.writeUInt32BE(HANDSHAKE_FLAG.fixedNewstyle | (flags & HANDSHAKE_FLAG.noZeroes));
    this.noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    this.socket.write(answer);
  }

  private noZeroes = false;

  /** Asks for TLS; the caller then starts it. @throws Refused */
  async startTls(): Promise<void> {
    const { type, data } = await this.ask(OPTION.startTls, Buffer.alloc(0));
    if (type !== OPTION_REPLY.ack) {
      throw new Refused(`The server offers no TLS${said(data)}.`);
    }
    if (this.input.length > 0) {
      throw new ProtocolViolation('The server went on in plain text where TLS begins.');
    }
  }

  /** Chooses an export. @throws Refused, ProtocolViolation, ConnectionLost */
  async go(exportName: string, contexts: readonly string[]): Promise<ExportInfo> {
    const structuredReplies = await this.askForStructuredReplies();
    const chosen = structuredReplies ? await this.chooseContexts(exportName, contexts) : new Map<string, number>();
    const told = await this.describe(OPTION.go, exportName, [INFO.blockSize]);
    if (!told) {
      return exportInfo(await this.exportName(Buffer.from(exportName)), [1, 4096, MAX_PAYLOAD], structuredReplies, chosen);
    }
    return exportInfo(told, told.blocks ?? [1, 4096, MAX_PAYLOAD], structuredReplies, chosen);
  }

  /** Whether the server agrees to structured replies, and so to tell of contexts. */
  async askForStructuredReplies(): Promise<boolean> {
    return (await this.ask(OPTION.structuredReply, Buffer.alloc(0))).type === OPTION_REPLY.ack;
  }

  /** The names of all exports, as far as the server tells them. @throws Refused, ProtocolViolation, ConnectionLost */
  async list(): Promise<readonly { readonly name: string; readonly description: string }[]> {
    const found: { name: string; description: string }[] = [];
    this.send(OPTION.list, Buffer.alloc(0));
    for (let count = 0; count < MAX_EXPORTS; count++) {
      const { type, data } = await this.reply(OPTION.list);
      if (type === OPTION_REPLY.ack) {
        return found;
      }
      if (type >= ERROR_BIT) {
        throw new Refused(type === OPTION_REPLY.errorTlsRequired ? TLS_REQUIRED : `The server does not list its exports${said(data)}.`);
      }
      const length = type === OPTION_REPLY.server && data.length >= 4 ? data.readUInt32BE(0) : Infinity;
      if (4 + length > data.length) {
        throw new ProtocolViolation(`The server answers ${type} where it lists its exports.`);
      }
      found.push({ name: data.toString('utf8', 4, 4 + length), description: data.toString('utf8', 4 + length) });
    }
    throw new ProtocolViolation('The server does not end to list its exports.');
  }

  /**
   * What the server tells of an export, which is chosen with `GO`; null from a server of before `GO`.
   * @throws Refused, ProtocolViolation, ConnectionLost
   */
  async describe(
    option: typeof OPTION.go | typeof OPTION.info,
    exportName: string,
    wanted: readonly number[],
  ): Promise<Description | null> {
    const name = Buffer.from(exportName);
    this.send(option, Buffer.concat([uint32(name.length), name, uint16(wanted.length), ...wanted.map(uint16)]));
    let found: Pick<Description, 'size' | 'flags'> | null = null;
    let blocks: Description['blocks'] = null;
    for (let count = 0; count < MAX_REPLIES; count++) {
      const { type, data } = await this.reply(option);
      if (type === OPTION_REPLY.ack) {
        if (!found) {
          throw new ProtocolViolation('The server does not tell the size of the export.');
        }
        return { ...found, blocks };
      }
      if (type === OPTION_REPLY.errorUnsupported) {
        return null;
      }
      if (type >= ERROR_BIT) {
        throw new Refused(refusal(type, exportName, data));
      }
      const info = type === OPTION_REPLY.info && data.length >= 2 ? data.readUInt16BE(0) : -1;
      if (info === INFO.export && data.length === 12) {
        found = { size: size(data.readBigUInt64BE(2)), flags: data.readUInt16BE(10) };
      } else if (info === INFO.blockSize && data.length === 14) {
        blocks = [data.readUInt32BE(2), data.readUInt32BE(6), data.readUInt32BE(10)];
      } else if (info < 0 || info === INFO.export || info === INFO.blockSize) {
        throw new ProtocolViolation(`The server answers ${type} where it tells of the export.`);
      }
    }
    throw new ProtocolViolation('The server does not end to tell of the export.');
  }

  /** The names of the metadata contexts that an export has. @throws ProtocolViolation, ConnectionLost */
  async listContexts(exportName: string): Promise<readonly string[]> {
    return (await this.contextReplies(OPTION.listMetaContext, exportName, [])).map(({ name }) => name);
  }

  /** Ends the talk in peace. */
  abort(): void {
    this.send(OPTION.abort, Buffer.alloc(0));
  }

  /** The way of before `GO`: a name that is not there ends the connection. */
  private async exportName(name: Buffer): Promise<Pick<ExportInfo, 'size' | 'flags'>> {
    this.send(OPTION.exportName, name);
    const answer = await this.take(10 + (this.noZeroes ? 0 : 124));
    return { size: size(answer.readBigUInt64BE(0)), flags: answer.readUInt16BE(8) };
  }

  private async chooseContexts(exportName: string, wanted: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const told = await this.contextReplies(OPTION.setMetaContext, exportName, wanted);
    return new Map(told.filter(({ name }) => wanted.includes(name)).map(({ name, id }) => [name, id]));
  }

  /** Without contexts, all is data: a server that refuses to talk of them has none. */
  private async contextReplies(option: number, exportName: string, queries: readonly string[]): Promise<{ name: string; id: number }[]> {
    const found: { name: string; id: number }[] = [];
    const name = Buffer.from(exportName);
    const words = queries.flatMap((context) => [uint32(Buffer.byteLength(context)), Buffer.from(context)]);
    this.send(option, Buffer.concat([uint32(name.length), name, uint32(queries.length), ...words]));
    for (let count = 0; count < MAX_CONTEXTS; count++) {
      const { type, data } = await this.reply(option);
      if (type === OPTION_REPLY.ack || type >= ERROR_BIT) {
        return type === OPTION_REPLY.ack ? found : [];
      }
      if (type !== OPTION_REPLY.metaContext || data.length < 4) {
        throw new ProtocolViolation(`The server answers ${type} where it names contexts.`);
      }
      found.push({ name: data.toString('utf8', 4), id: data.readUInt32BE(0) });
    }
    throw new ProtocolViolation('The server does not end to name contexts.');
  }

  private async ask(option: number, data: Buffer): Promise<Reply> {
    this.send(option, data);
    return this.reply(option);
  }

  private send(option: number, data: Buffer): void {
    const header = Buffer.alloc(16);
    header.writeBigUInt64BE(OPTION_MAGIC, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(data.length, 12);
    this.socket.write(Buffer.concat([header, data]));
  }

  private async reply(option: number): Promise<Reply> {
    const header = await this.take(20);
    const length = header.readUInt32BE(16);
    if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC || header.readUInt32BE(8) !== option || length > MAX_REPLY) {
      throw new ProtocolViolation('The server answers what it was not asked.');
    }
    return { type: header.readUInt32BE(12), data: length === 0 ? Buffer.alloc(0) : await this.take(length) };
  }

  private async take(length: number): Promise<Buffer> {
    const bytes = await this.input.read(length);
    if (!bytes) {
      throw new ConnectionLost('The server closed the connection during the handshake.');
    }
    return bytes;
  }
}

/** The contexts that a client asks for when nobody says otherwise. */
export const USUAL_CONTEXTS: readonly string[] = [CONTEXT.allocation, CONTEXT.allocationDepth];

function exportInfo(
  found: Pick<ExportInfo, 'size' | 'flags'>,
  [minimumBlock, preferredBlock, maximumBlock]: readonly [number, number, number],
  structuredReplies: boolean,
  contexts: ReadonlyMap<string, number>,
): ExportInfo {
  if (!isPowerOfTwo(minimumBlock) || minimumBlock > 64 * 1024 || maximumBlock < minimumBlock || preferredBlock < minimumBlock) {
    throw new ProtocolViolation(`The server tells impossible block sizes (${minimumBlock}, ${preferredBlock}, ${maximumBlock}).`);
  }
  if (found.size % minimumBlock !== 0) {
    throw new ProtocolViolation(`The export's ${found.size} bytes are no multiple of its minimum block size ${minimumBlock}.`);
  }
  const most = Math.min(maximumBlock, MAX_PAYLOAD);
  const flags = (found.flags & TRANSMISSION_FLAG.hasFlags) === 0 ? 0 : found.flags;
  return {
    ...found,
    flags,
    minimumBlock,
    preferredBlock,
    structuredReplies,
    contexts,
    maximumBlock: most - (most % minimumBlock),
  };
}

function size(value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new ProtocolViolation(`The export has ${value} bytes, more than can be addressed.`);
  }
  return Number(value);
}

function refusal(type: number, exportName: string, data: Buffer): string {
  switch (type) {
    case OPTION_REPLY.errorUnknown:
      return `The server has no export '${printable(exportName)}'${said(data)}.`;
    case OPTION_REPLY.errorTlsRequired:
      return TLS_REQUIRED;
    default:
      return `The server refuses the export '${printable(exportName)}'${said(data)}.`;
  }
}

function said(data: Buffer): string {
  const text = printable(data.toString('utf8')).trim().replace(/\.$/, '');
  return text === '' ? '' : ` (${text})`;
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0;
}
