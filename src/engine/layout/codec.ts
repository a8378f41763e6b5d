import { fieldLength, type BitRange, type ByteOrder, type Field, type NumberField, type Structure } from './fields';

/** A decoded field: `bigint` for 64-bit numbers (nothing is lost on hostile values), `number` below, bytes as they are. */
export type FieldValue = number | bigint | Uint8Array;

/** Reads one number; the caller guarantees that the bytes are there. */
export function readNumber(view: DataView, offset: number, kind: NumberField['kind'], order: ByteOrder): number | bigint {
  const little = order === 'little';
  switch (kind) {
    case 'u8':
      return view.getUint8(offset);
    case 'u16':
      return view.getUint16(offset, little);
    case 'u32':
      return view.getUint32(offset, little);
    case 'i32':
      return view.getInt32(offset, little);
    case 'u64':
      return view.getBigUint64(offset, little);
  }
}

/**
 * A structure laid over bytes. Fields that lie past the end of the bytes (a truncated file, an older version) read as zero and
 * `has()` tells the two apart.
 */
export class Decoded<Name extends string = string> {
  readonly structure: Structure<Name>;
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly byName: Map<string, Field>;

  constructor(declared: Structure<Name>, bytes: Uint8Array) {
    this.structure = declared;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.byName = new Map(declared.fields.map((field) => [field.name, field]));
  }

  field(name: Name): Field {
    const field = this.byName.get(name);
    if (!field) {
      throw new RangeError(`${this.structure.title} declares no field ${name}`);
    }
    return field;
  }

  /** Whether all of the field's bytes are present. */
  has(name: Name): boolean {
    const field = this.field(name);
    return field.offset + fieldLength(field) <= this.bytes.length;
  }

  value(name: Name): FieldValue {
    const field = this.field(name);
    if (field.kind === 'bytes' || field.kind === 'ascii') {
      return this.bytes.subarray(field.offset, field.offset + field.length);
    }
    if (field.offset + fieldLength(field) > this.bytes.length) {
      return field.kind === 'u64' ? 0n : 0;
    }
    return readNumber(this.view, field.offset, field.kind, this.structure.order);
  }

  /**
   * The field as a number. A 64-bit value past 2^53-1 becomes `Infinity`, so that every range check that follows fails without a
   * special case.
   */
  number(name: Name): number {
    return toNumber(this.value(name));
  }

  /** The field as a 64-bit integer. */
  bigint(name: Name): bigint {
    const value = this.value(name);
    return typeof value === 'bigint' ? value : BigInt(toNumber(value));
  }

  /** The field's bytes as they stand in the file; shorter than declared when the file ends inside it. */
  raw(name: Name): Uint8Array {
    const field = this.field(name);
    return this.bytes.subarray(field.offset, field.offset + fieldLength(field));
  }
}

function toNumber(value: FieldValue): number {
  if (typeof value === 'number') {
    return value;
  }
  if (typeof value === 'bigint') {
    return safeNumber(value);
  }
  throw new RangeError('a bytes field has no number');
}

/** A 64-bit value as a number, `Infinity` when it is past 2^53-1. */
export function safeNumber(value: bigint): number {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : Infinity;
}

/** Values to encode by field name; fields left out are zero. */
export type StructureValues<Name extends string> = Partial<Record<Name, number | bigint | Uint8Array>>;

/** Encodes a structure into exactly its declared length. Throws RangeError when a value does not fit its field. */
export function encode<Name extends string>(declared: Structure<Name>, values: StructureValues<Name>): Uint8Array {
  const bytes = new Uint8Array(declared.length);
  const view = new DataView(bytes.buffer);
  for (const field of declared.fields) {
    const value = values[field.name];
    if (value !== undefined) {
      writeField(bytes, view, field, value, declared.order);
    }
  }
  return bytes;
}

function writeField(bytes: Uint8Array, view: DataView, field: Field, value: FieldValue, order: ByteOrder): void {
  const little = order === 'little';
  if (field.kind === 'bytes' || field.kind === 'ascii') {
    if (!(value instanceof Uint8Array) || value.length > field.length) {
      throw new RangeError(`${field.name}: expected at most ${field.length} bytes`);
    }
    bytes.set(value, field.offset);
    return;
  }
  if (value instanceof Uint8Array) {
    throw new RangeError(`${field.name}: expected a number`);
  }
  const wide = BigInt(value);
  const width = BigInt(fieldLength(field) * 8);
  const low = field.kind === 'i32' ? -(1n << (width - 1n)) : 0n;
  if (wide < low || wide >= 1n << width) {
    throw new RangeError(`${field.name}: ${wide} does not fit ${width} bits`);
  }
  switch (field.kind) {
    case 'u8':
      view.setUint8(field.offset, Number(wide));
      break;
    case 'u16':
      view.setUint16(field.offset, Number(wide), little);
      break;
    case 'u32':
      view.setUint32(field.offset, Number(wide), little);
      break;
    case 'i32':
      view.setInt32(field.offset, Number(wide), little);
      break;
    case 'u64':
      view.setBigUint64(field.offset, wide, little);
      break;
  }
}

/** The bits of `range` in a word: an offset keeps its position, everything else is shifted down. */
export function extractBits(word: bigint, range: BitRange): bigint {
  const mask = ((1n << BigInt(range.width)) - 1n) << BigInt(range.lowBit);
  const masked = word & mask;
  return range.show === 'hostOffset' ? masked : masked >> BigInt(range.lowBit);
}
