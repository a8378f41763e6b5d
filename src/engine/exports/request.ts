import { COMMAND, COMMAND_FLAG, MAX_PAYLOAD, NBD_ERROR } from '../nbd/protocol';
import type { Agreed } from './handshake';

/** A request of the transmission phase, without its payload. */
export interface Request {
  readonly flags: number;
  readonly type: number;
  /** The client's own mark, 64 bits of it: as numbers, since a BigInt is an object. */
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offset: number;
  readonly length: number;
}

/** The flags that a command may have. */
const FLAGS_OF: Readonly<Record<number, number>> = {
  [COMMAND.read]: COMMAND_FLAG.fua | COMMAND_FLAG.df,
  [COMMAND.write]: COMMAND_FLAG.fua,
  [COMMAND.disconnect]: COMMAND_FLAG.fua,
  [COMMAND.flush]: COMMAND_FLAG.fua,
  [COMMAND.trim]: COMMAND_FLAG.fua,
  [COMMAND.cache]: COMMAND_FLAG.fua,
  [COMMAND.writeZeroes]: COMMAND_FLAG.fua | COMMAND_FLAG.noHole | COMMAND_FLAG.fastZero,
  [COMMAND.blockStatus]: COMMAND_FLAG.fua | COMMAND_FLAG.reqOne,
};

/** @param at where `REQUEST_LENGTH` bytes of it begin */
export function readRequest(input: Buffer, at: number): Request {
  return {
    flags: input.readUInt16BE(at + 4),
    type: input.readUInt16BE(at + 6),
    cookieHigh: input.readUInt32BE(at + 8),
    cookieLow: input.readUInt32BE(at + 12),
    // An offset past 2^53 lies past the end of every disk, rounded or not.
    offset: input.readUInt32BE(at + 16) * 2 ** 32 + input.readUInt32BE(at + 20),
    length: input.readUInt32BE(at + 24),
  };
}

/** The error for a request that the export does not take; null when it is in order. */
export function refusal({ type, flags, offset, length }: Request, { offered, structuredReplies, contexts }: Agreed): number | null {
  const known = FLAGS_OF[type];
  if (known === undefined || (flags & ~known) !== 0) {
    return NBD_ERROR.EINVAL;
  }
  if ((flags & COMMAND_FLAG.df) !== 0 && !structuredReplies) {
    return NBD_ERROR.EINVAL;
  }
  const changes = type === COMMAND.write || type === COMMAND.trim || type === COMMAND.writeZeroes;
  if (changes && offered.readOnly) {
    return NBD_ERROR.EPERM;
  }
  if (type === COMMAND.flush) {
    return offset === 0 && length === 0 ? null : NBD_ERROR.EINVAL;
  }
  if ((type === COMMAND.read || type === COMMAND.cache) && length > MAX_PAYLOAD) {
    return NBD_ERROR.EINVAL;
  }
  if (offset + length > offered.node.size) {
    return type === COMMAND.write || type === COMMAND.writeZeroes ? NBD_ERROR.ENOSPC : NBD_ERROR.EINVAL;
  }
  if (type === COMMAND.blockStatus && (length === 0 || contexts.length === 0)) {
    return NBD_ERROR.EINVAL;
  }
  return null;
}
