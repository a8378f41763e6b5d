import type { TableRow, TableShape } from '../../src/protocol/inspect';

/** One declared bit range of an entry as it stands in a row. */
export interface DecodedBits {
  readonly name: string;
  /** `9-55`; bits of a second word are numbered from 64. */
  readonly range: string;
  readonly value: string;
  readonly meaning: string;
  /** A reserved bit is set. */
  readonly wrong: boolean;
}

/** Takes an entry's bytes apart as its declaration says; empty where no table is allocated or nothing is declared. */
export function decoded(row: TableRow, { entries = [] }: TableShape): readonly DecodedBits[] {
  const declaration = entries.find(({ kinds }) => kinds === null || kinds.includes(row.kind));
  if (declaration === undefined || row.rawHex === '') {
    return [];
  }
  const words = wordsOf(row.rawHex, declaration.littleEndian);
  return declaration.bits.flatMap(({ name, lowBit, width, show, meaning }) => {
    const word = words[Math.floor(lowBit / 64)];
    if (word === undefined) {
      return [];
    }
    const mask = (1n << BigInt(width)) - 1n;
    const inWord = BigInt(lowBit % 64);
    const bits = (word >> inWord) & mask;
    const reserved = show === 'reserved';
    if (reserved && bits === 0n) {
      return [];
    }
    // An offset's bits keep their weight: the range is a mask, not a number of its own.
    const value =
      show === 'hostOffset' ? `0x${(bits << inWord).toString(16)}` : show === 'hex' || reserved ? `0x${bits.toString(16)}` : String(bits);
    return [{ name, range: width === 1 ? String(lowBit) : `${lowBit}-${lowBit + width - 1}`, value, meaning, wrong: reserved }];
  });
}

function wordsOf(rawHex: string, littleEndian: boolean): readonly bigint[] {
  const words: bigint[] = [];
  for (let at = 0; at < rawHex.length; at += 16) {
    const digits = rawHex.slice(at, at + 16);
    words.push(BigInt(`0x${littleEndian ? (digits.match(/../g) ?? []).reverse().join('') : digits}`));
  }
  return words;
}
