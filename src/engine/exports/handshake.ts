import type { Duplex } from 'node:stream';

import {
  CONTEXT,
  HANDSHAKE_FLAG,
  INFO,
  INIT_MAGIC,
  MAX_PAYLOAD,
  MAX_STRING,
  OPTION,
  OPTION_HEADER_LENGTH,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_MAGIC,
  TRANSMISSION_FLAG,
  uint16,
  uint32,
} from '../nbd/protocol';
import type { ByteQueue } from './byteQueue';
import { contextsOf, type MetaContext, type NbdExport } from './nbdExport';

/** More than any option needs; a client that sends more is not talking NBD. */
const MAX_OPTION_BYTES = 64 * 1024;
/** A client that haggles on and on wants something else. */
const MAX_OPTIONS = 1000;

/** What was agreed on. */
export interface Agreed {
  readonly offered: NbdExport;
  readonly structuredReplies: boolean;
  /** The chosen contexts, by the id that replies name them by. */
  readonly contexts: readonly { readonly id: number; readonly context: MetaContext }[];
}

export interface HandshakeOptions {
  readonly exports: readonly NbdExport[];
  /** Whether a client that has not asked for TLS is told to. */
  readonly tlsRequired: boolean;
}

/** Ends of a handshake that lead to no transmission. */
export type HandshakeEnd = 'closed' | 'aborted' | 'startTls';

/**
 * The server's side of the fixed newstyle handshake. Returns what was agreed on, or why it ended; what the client sent behind it is left in
 * `input`. The socket is the caller's to close.
 */
export class Handshake {
  private readonly input: ByteQueue;
  private readonly socket: Duplex;
  private readonly options: HandshakeOptions;
  private structuredReplies = false;
  private contexts: { exportName: string; chosen: Agreed['contexts'] } | null = null;
  private noZeroes = false;

  constructor(input: ByteQueue, socket: Duplex, options: HandshakeOptions) {
    this.input = input;
    this.socket = socket;
    this.options = options;
  }

  /** @param greeted the connection has gone over to TLS: options follow at once */
  async run(greeted: boolean): Promise<Agreed | HandshakeEnd> {
    if (!greeted && !(await this.greet())) {
      return 'closed';
    }
    for (let count = 0; count < MAX_OPTIONS; count++) {
      const header = await this.input.read(OPTION_HEADER_LENGTH);
      if (header?.readBigUInt64BE(0) !== OPTION_MAGIC) {
        return 'closed';
      }
      const option = header.readUInt32BE(8);
      const length = header.readUInt32BE(12);
      if (length > MAX_OPTION_BYTES) {
        return 'closed';
      }
      const data = length === 0 ? Buffer.alloc(0) : await this.input.read(length);
      if (!data) {
        return 'closed';
      }
      const end = this.answer(option, data);
      if (end) {
        return end;
      }
    }
    return 'closed';
  }

  private async greet(): Promise<boolean> {
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(INIT_MAGIC, 0);
    greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
    greeting.writeUInt16BE(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes, 16);
    this.socket.write(greeting);
    const flags = (await this.input.read(4))?.readUInt32BE(0);
    if (flags === undefined || (flags & ~(HANDSHAKE_FLAG.fixedNewstyle | HANDSHAKE_FLAG.noZeroes)) !== 0) {
      return false;
    }
    this.noZeroes = (flags & HANDSHAKE_FLAG.noZeroes) !== 0;
    return true;
  }

  private answer(option: number, data: Buffer): Agreed | HandshakeEnd | null {
    if (this.options.tlsRequired && option !== OPTION.startTls && option !== OPTION.abort) {
      if (option === OPTION.exportName) {
        return 'closed';
      }
      this.reply(option, OPTION_REPLY.errorTlsRequired, 'This server takes clients with TLS only.');
      return null;
    }
    switch (option) {
      case OPTION.exportName:
        return this.exportName(data.toString());
      case OPTION.abort:
        this.reply(option, OPTION_REPLY.ack);
        return 'aborted';
      case OPTION.list:
        this.list(data);
        return null;
      case OPTION.startTls:
        return this.startTls(data);
      case OPTION.info:
      case OPTION.go:
        return this.go(option, data);
      case OPTION.structuredReply:
        if (this.empty(option, data)) {
          this.structuredReplies = true;
          this.reply(option, OPTION_REPLY.ack);
        }
        return null;
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        this.metaContext(option, data);
        return null;
      default:
        this.reply(option, OPTION_REPLY.errorUnsupported, 'Unsupported option.');
        return null;
    }
  }

  /** The old way to choose an export, without an answer when there is none of that name. */
  private exportName(name: string): Agreed | HandshakeEnd {
    const offered = this.find(name);
    if (!offered) {
      return 'closed';
    }
    const answer = Buffer.alloc(this.noZeroes ? 10 : 134);
    answer.writeBigUInt64BE(BigInt(offered.node.size), 0);
    answer.writeUInt16BE(this.flagsOf(offered), 8);
    this.socket.write(answer);
    return this.agreed(offered);
  }

  private list(data: Buffer): void {
    if (!this.empty(OPTION.list, data)) {
      return;
    }
    for (const { name, description } of this.options.exports) {
      const text = Buffer.from(name);
      this.reply(OPTION.list, OPTION_REPLY.server, Buffer.concat([uint32(text.length), text, Buffer.from(description)]));
    }
    this.reply(OPTION.list, OPTION_REPLY.ack);
  }

  private startTls(data: Buffer): HandshakeEnd | null {
    if (!this.options.tlsRequired) {
      this.reply(OPTION.startTls, OPTION_REPLY.errorPolicy, 'TLS is not configured.');
      return null;
    }
    if (!this.empty(OPTION.startTls, data)) {
      return null;
    }
    this.reply(OPTION.startTls, OPTION_REPLY.ack);
    return 'startTls';
  }

  private go(option: number, data: Buffer): Agreed | null {
    const name = readString(data, 0);
    const count = name === null || data.length < name.end + 2 ? -1 : data.readUInt16BE(name.end);
    if (name === null || data.length !== name.end + 2 + count * 2) {
      this.reply(option, OPTION_REPLY.errorInvalid, 'The option is malformed.');
      return null;
    }
    const offered = this.find(name.text);
    if (!offered) {
      this.reply(option, OPTION_REPLY.errorUnknown, `export '${name.text.slice(0, 80)}' not present`);
      return null;
    }
    const wanted = new Set(Array.from({ length: count }, (_, index) => data.readUInt16BE(name.end + 2 + index * 2)));
    const info = Buffer.alloc(12);
    info.writeUInt16BE(INFO.export, 0);
    info.writeBigUInt64BE(BigInt(offered.node.size), 2);
    info.writeUInt16BE(this.flagsOf(offered), 10);
    this.reply(option, OPTION_REPLY.info, info);
    if (wanted.has(INFO.name)) {
      this.reply(option, OPTION_REPLY.info, Buffer.concat([uint16(INFO.name), Buffer.from(offered.name)]));
    }
    if (wanted.has(INFO.description) && offered.description !== '') {
      this.reply(option, OPTION_REPLY.info, Buffer.concat([uint16(INFO.description), Buffer.from(offered.description)]));
    }
    // Minimum, preferred, maximum.
    this.reply(
      option,
      OPTION_REPLY.info,
      Buffer.concat([uint16(INFO.blockSize), uint32(offered.leastBlock ?? 1), uint32(4096), uint32(MAX_PAYLOAD)]),
    );
    this.reply(option, OPTION_REPLY.ack);
    return option === OPTION.go ? this.agreed(offered) : null;
  }

  private metaContext(option: number, data: Buffer): void {
    const name = readString(data, 0);
    const queries = name && readQueries(data, name.end);
    if (!queries) {
      this.reply(option, OPTION_REPLY.errorInvalid, 'The option is malformed.');
      return;
    }
    if (!this.structuredReplies) {
      this.reply(option, OPTION_REPLY.errorInvalid, 'Structured replies were not negotiated.');
      return;
    }
    const offered = this.find(name.text);
    if (!offered) {
      this.reply(option, OPTION_REPLY.errorUnknown, `export '${name.text.slice(0, 80)}' not present`);
      return;
    }
    const listing = option === OPTION.listMetaContext;
    const all = contextsOf(offered);
    const chosen = all.flatMap((context, index) =>
      (listing && queries.length === 0) || queries.some((query) => matches(context.name, query, listing))
        ? [{ id: index + 1, context }]
        : [],
    );
    if (!listing) {
      this.contexts = { exportName: name.text, chosen };
    }
    for (const { id, context } of chosen) {
      this.reply(option, OPTION_REPLY.metaContext, Buffer.concat([uint32(listing ? 0 : id), Buffer.from(context.name)]));
    }
    this.reply(option, OPTION_REPLY.ack);
  }

  private agreed(offered: NbdExport): Agreed {
    const contexts = this.contexts?.exportName === offered.name ? this.contexts.chosen : [];
    return { offered, structuredReplies: this.structuredReplies, contexts };
  }

  private find(name: string): NbdExport | undefined {
    return this.options.exports.find((candidate) => candidate.name === name);
  }

  private flagsOf({ readOnly, multiConn = true }: NbdExport): number {
    const { hasFlags, sendFlush, sendFua, canMultiConn, sendCache, sendDf, sendTrim, sendWriteZeroes, sendFastZero } = TRANSMISSION_FLAG;
    // Every connection works on the same node, so a flush on one covers them all.
    const shared = multiConn ? canMultiConn : 0;
    const common = hasFlags | sendFlush | sendFua | shared | sendCache | (this.structuredReplies ? sendDf : 0);
    return readOnly ? common | TRANSMISSION_FLAG.readOnly : common | sendTrim | sendWriteZeroes | sendFastZero;
  }

  private empty(option: number, data: Buffer): boolean {
    if (data.length > 0) {
      this.reply(option, OPTION_REPLY.errorInvalid, 'The option takes no data.');
    }
    return data.length === 0;
  }

  private reply(option: number, type: number, data: Buffer | string = ''): void {
    const body = typeof data === 'string' ? Buffer.from(data) : data;
    const header = Buffer.alloc(20);
    header.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0);
    header.writeUInt32BE(option, 8);
    header.writeUInt32BE(type, 12);
    header.writeUInt32BE(body.length, 16);
    this.socket.write(Buffer.concat([header, body]));
  }
}

/** A query names a context; when listing, a namespace alone or with the part of a name stands for all that begin so. */
function matches(name: string, query: string, listing: boolean): boolean {
  if (name === query) {
    return true;
  }
  const namespace = query === 'base:' || query === 'qemu:' || query === CONTEXT.dirtyBitmapPrefix;
  return listing && namespace && name.startsWith(query);
}

function readString(data: Buffer, at: number): { readonly text: string; readonly end: number } | null {
  if (data.length < at + 4) {
    return null;
  }
  const length = data.readUInt32BE(at);
  const end = at + 4 + length;
  return length > MAX_STRING || end > data.length ? null : { text: data.toString('utf8', at + 4, end), end };
}

function readQueries(data: Buffer, from: number): string[] | null {
  if (data.length < from + 4) {
    return null;
  }
  const count = data.readUInt32BE(from);
  const queries: string[] = [];
  let at = from + 4;
  for (let index = 0; index < count; index++) {
    const query = readString(data, at);
    if (!query) {
      return null;
    }
    queries.push(query.text);
    at = query.end;
  }
  return at === data.length ? queries : null;
}
