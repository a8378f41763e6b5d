/**
 * Declarations of on-disk structures. One table per structure drives decoding, encoding, the editor's rows, hover texts and the wording
 * of check findings; nothing else in the project knows a field's offset.
 */

/** Byte order of a whole structure: qcow2 is big-endian, QED and VMDK are little-endian. */
export type ByteOrder = 'big' | 'little';

/** How a field's number is shown to a person. */
export type FieldShow =
  | 'number'
  | 'hex'
  | 'size' /* bytes, shown with a unit */
  | 'hostOffset' /* a link into the file */
  | 'bits' /* a feature or flag field, shown bit by bit */
  | 'enum'
  | 'time' /* seconds since 1970 */
  | 'text';

/** A named range of bits inside a field or an entry. */
export interface BitRange {
  /** The specification's name, or QEMU's where the specification has none. */
  readonly name: string;
  /** Lowest bit, counted from the least significant. */
  readonly lowBit: number;
  /** Number of bits, 1..64. */
  readonly width: number;
  readonly meaning: string;
  /** How the extracted value is shown; an offset keeps its position (it is not shifted down). */
  readonly show?: 'flag' | 'number' | 'hostOffset' | 'reserved';
}

export interface NumberField {
  readonly kind: 'u8' | 'u16' | 'u32' | 'u64' | 'i32';
  /** The specification's name. */
  readonly name: string;
  /** Byte offset from the structure's start. */
  readonly offset: number;
  readonly show: FieldShow;
  /** One line for a person who knows disks but not this structure. */
  readonly meaning: string;
  /** Format version that introduced the field; absent means from the first. */
  readonly since?: number;
  readonly bits?: readonly BitRange[];
  readonly values?: Readonly<Record<number, string>>;
}

export interface BytesField {
  readonly kind: 'bytes' | 'ascii';
  readonly name: string;
  readonly offset: number;
  /** Length in bytes. */
  readonly length: number;
  readonly show: 'text' | 'hex';
  readonly meaning: string;
  readonly since?: number;
}

export type Field = NumberField | BytesField;

export interface Structure<Name extends string = string> {
  /** What a person calls it: "qcow2 header". */
  readonly title: string;
  readonly order: ByteOrder;
  /** Length in bytes of the fixed part. */
  readonly length: number;
  readonly fields: readonly (Field & { readonly name: Name })[];
}

/** Declares a structure so that its field names become a type. */
export function structure<const F extends readonly Field[]>(
  title: string,
  order: ByteOrder,
  length: number,
  fields: F,
): Structure<F[number]['name']> & { readonly fields: F } {
  return { title, order, length, fields };
}

/** A table entry: one 64-bit word (two for extended L2) cut into bit ranges. */
export interface EntryStructure {
  readonly title: string;
  readonly order: ByteOrder;
  readonly bits: readonly BitRange[];
}

const FIELD_WIDTHS = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4 } as const;

/** Length of a field in bytes. */
export function fieldLength(field: Field): number {
  return field.kind === 'bytes' || field.kind === 'ascii' ? field.length : FIELD_WIDTHS[field.kind];
}
