import { EngineError } from '../errors';
import { hex, humanSize, visible } from './wording';

/** An address that a person typed, understood. */
export interface Address {
  readonly space: 'guest' | 'host';
  /** Bytes. */
  readonly offset: number;
  /** In words: `guest offset 4 GiB (0x100000000)`. */
  readonly understood: string;
}

export interface AddressContext {
  /** What a number without prefix is. */
  readonly space: 'guest' | 'host';
  /** Null for formats without clusters. */
  readonly clusterSize: number | null;
}

interface Prefix {
  readonly space: 'guest' | 'host';
  readonly unit: 'byte' | 'cluster';
}

const PREFIXES: Readonly<Record<string, Prefix>> = {
  g: { space: 'guest', unit: 'byte' },
  guest: { space: 'guest', unit: 'byte' },
  h: { space: 'host', unit: 'byte' },
  host: { space: 'host', unit: 'byte' },
  c: { space: 'guest', unit: 'cluster' },
  gc: { space: 'guest', unit: 'cluster' },
  cluster: { space: 'guest', unit: 'cluster' },
  hc: { space: 'host', unit: 'cluster' },
};

const UNITS = ['K', 'M', 'G', 'T', 'P', 'E'] as const;
const MAX_TEXT = 200;

/**
 * Reads an address: a number of bytes (decimal with or without separators, hexadecimal, with a binary unit), `g:` or `h:` before it for
 * the guest's disk or the file, `c:` or `hc:` before a cluster's number, and further byte counts added with `+`.
 * @throws EngineError `address.invalid`
 */
export function parseAddress(text: string, context: AddressContext): Address {
  const trimmed = text.trim();
  if (trimmed === '') {
    throw invalid("Type an address, such as 4G, 0x1f0000, c:1024 (a cluster's number) or h:64K (an offset in the file).");
  }
  if (trimmed.length > MAX_TEXT) {
    throw invalid('The address is too long.');
  }
  const match = /^([a-z]+)\s*:(.*)$/is.exec(trimmed);
  const prefix = match ? PREFIXES[(match[1] ?? '').toLowerCase()] : { space: context.space, unit: 'byte' as const };
  if (!prefix) {
    throw invalid(
      `'${match?.[1] ?? ''}:' is not known; use g: (guest offset), h: (host offset), c: (guest cluster) or hc: (host cluster).`,
    );
  }
  const [first = '', ...others] = (match ? (match[2] ?? '') : trimmed).split('+').map((term) => term.trim());
  const added = others.reduce((sum, term) => sum + parseBytes(term), 0n);
  if (prefix.unit === 'cluster') {
    return clusterAddress(prefix.space, parseNumber(first), added, context.clusterSize);
  }
  return byteAddress(prefix.space, parseBytes(first) + added);
}

function clusterAddress(space: Address['space'], cluster: bigint, added: bigint, clusterSize: number | null): Address {
  if (clusterSize === null) {
    throw invalid('This image has no clusters; give an offset in bytes instead.');
  }
  const { offset, understood } = byteAddress(space, cluster * BigInt(clusterSize) + added);
  return { space, offset, understood: `${space} cluster ${cluster}: ${understood}` };
}

function byteAddress(space: Address['space'], bytes: bigint): Address {
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw invalid(`${hex(bytes)} is past 2^53-1, the largest offset that is supported.`);
  }
  const offset = Number(bytes);
  return { space, offset, understood: `${space} offset ${describeOffset(offset)}` };
}

/** `4 GiB (0x100000000)`, or `1234567 bytes (0x12d687)` where no unit fits evenly. */
export function describeOffset(offset: number): string {
  const even = offset > 0 && Number(humanSize(offset).split(' ')[0]) * 1024 ** unitOf(offset) === offset;
  return `${offset >= 1000 && even ? humanSize(offset) : `${offset} bytes`} (${hex(offset)})`;
}

function unitOf(offset: number): number {
  return ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'].indexOf(humanSize(offset).split(' ')[1] ?? 'B');
}

/** A count of bytes with an optional unit. */
function parseBytes(text: string): bigint {
  const match = /^(.*?)\s*([a-z]*)$/is.exec(text);
  const isHex = /^0x/i.test(text);
  // Behind 0x, letters up to F are digits; only a unit that is no digit can follow.
  const hexMatch = isHex ? /^(0x[0-9a-f_]*)\s*([g-z][a-z]*)?$/is.exec(text) : null;
  const number = isHex ? (hexMatch?.[1] ?? text) : (match?.[1] ?? '');
  const unit = isHex ? (hexMatch?.[2] ?? '') : (match?.[2] ?? '');
  if (unit !== '' && /^(0x_*)?$/i.test(number)) {
    throw notANumber(text);
  }
  const factor = unitFactor(unit);
  const fraction = /^(\d+)\.(\d+)$/.exec(number);
  if (fraction) {
    const digits = fraction[2] ?? '';
    const scaled = BigInt((fraction[1] ?? '') + digits) * factor;
    const divisor = 10n ** BigInt(digits.length);
    if (scaled % divisor !== 0n) {
      throw invalid(`${text} is not a whole number of bytes.`);
    }
    return scaled / divisor;
  }
  return parseNumber(number) * factor;
}

function unitFactor(unit: string): bigint {
  if (unit === '' || /^b(ytes?)?$/i.test(unit)) {
    return 1n;
  }
  const power = /^([kmgtpe])(ib)?$/i.exec(unit);
  if (!power) {
    throw invalid(`The unit '${unit}' is not known; use K, M, G, T, P (powers of 1024) or KiB, MiB, GiB, TiB, PiB.`);
  }
  const index = UNITS.indexOf((power[1] ?? '').toUpperCase() as (typeof UNITS)[number]);
  return 1024n ** BigInt(index + 1);
}

/** A whole number: hexadecimal with `_`, or decimal whose separators stand between groups of three digits (`_` anywhere). */
function parseNumber(text: string): bigint {
  if (/^0x[0-9a-f_]*[0-9a-f][0-9a-f_]*$/i.test(text)) {
    return BigInt(text.replaceAll('_', ''));
  }
  if (/^\d[\d_]*$/.test(text) || /^\d{1,3}([,' \u00a0\u202f])\d{3}(\1\d{3})*$/.test(text)) {
    return BigInt(text.replaceAll(/\D/g, ''));
  }
  if (text === '') {
    throw invalid('A number is missing.');
  }
  if (text.startsWith('-')) {
    throw invalid('An address is not negative.');
  }
  if (/^\d+,\d+$/.test(text)) {
    throw invalid(`In '${text}' the comma separates no groups of three digits; write fractions with a point.`);
  }
  throw notANumber(text);
}

function notANumber(text: string): EngineError {
  return invalid(`'${visible(text)}' is not a number; write it in decimal, or in hexadecimal with 0x before it.`);
}

function invalid(message: string): EngineError {
  return new EngineError('address.invalid', message);
}
