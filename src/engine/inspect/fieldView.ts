import type { FieldView, Notice, StructureView } from '../../protocol/inspect';
import type { Place } from '../../protocol/place';
import type { Problem } from '../formats/problem';
import type { Decoded } from '../layout/codec';
import { fieldLength, type BitRange, type Field } from '../layout/fields';
import { dateText, exactSize, hex, hexBytes, visible } from './wording';

/** Longer fields show their beginning. */
const SHOWN_BYTES = 64;

export interface StructureOptions<Name extends string> {
  /** Stable within an image. */
  readonly id: string;
  readonly title: string;
  /** Byte offset in the file of the structure. */
  readonly hostOffset: number;
  readonly fileSize: number;
  /** Whether this image's version of the structure has the field; without it all are shown. */
  readonly has?: (field: Field) => boolean;
  /** What a value amounts to, said behind it: `16` means "cluster size 64 KiB". */
  readonly explain?: Partial<Record<Name, string>>;
  /** Where a field leads; host offsets lead to themselves without this. */
  readonly places?: Partial<Record<Name, Place | null>>;
  /** What is wrong with this structure; those with a field stand at it. */
  readonly problems?: readonly Problem[];
  /** Names that the image itself gives to bits nobody declares. */
  readonly bitName?: (field: string, bit: number) => string | undefined;
}

/** A decoded structure as rows, by its declaration. */
export function structureView<Name extends string>(decoded: Decoded<Name>, options: StructureOptions<Name>): StructureView {
  const { id, title, hostOffset, problems = [] } = options;
  const declared = decoded.structure.fields.filter((field) => options.has?.(field) ?? true);
  return {
    id,
    title,
    hostOffset,
    length: Math.max(0, ...declared.map((field) => field.offset + fieldLength(field))),
    fields: declared.map((field) => fieldView(decoded, field, options)),
    problems: problems
      .filter(({ field }) => field === undefined || !declared.some(({ name }) => name === field))
      .map((problem) => problemNotice(problem)),
  };
}

export function problemNotice(problem: Problem): Notice {
  return {
    severity: problem.severity,
    message: visible(problem.message),
    place: Number.isSafeInteger(problem.hostOffset) ? { kind: 'host', hostOffset: problem.hostOffset } : null,
  };
}

function fieldView<Name extends string>(
  decoded: Decoded<Name>,
  field: Field & { readonly name: Name },
  options: StructureOptions<Name>,
): FieldView {
  const { name } = field;
  const explanation = options.explain?.[name];
  const present = decoded.has(name);
  const problem = (options.problems ?? []).filter((candidate) => candidate.field === name).map(({ message }) => visible(message));
  const value = present ? fieldValue(decoded, field) : '(past the end of the file)';
  return {
    name,
    hostOffset: options.hostOffset + field.offset,
    length: fieldLength(field),
    rawHex: hexBytes(decoded.raw(name).subarray(0, SHOWN_BYTES)),
    value: present && explanation !== undefined ? `${value} (${explanation})` : value,
    meaning: field.meaning,
    place: options.places?.[name] !== undefined ? options.places[name] : defaultPlace(decoded, field, options.fileSize),
    bits: field.show === 'bits' ? bitViews(decoded.bigint(name), field.bits ?? [], (bit) => options.bitName?.(name, bit)) : [],
    problem: problem.length > 0 ? problem.join(' ') : null,
  };
}

/** A field that is no declared number: a name, a stretch of bytes that nobody declares. */
export function bytesField(
  name: string,
  hostOffset: number,
  bytes: Uint8Array,
  rest: { readonly value: string; readonly meaning: string; readonly place?: Place | null; readonly problem?: string | null },
): FieldView {
  return {
    name,
    hostOffset,
    length: bytes.length,
    rawHex: hexBytes(bytes.subarray(0, SHOWN_BYTES)),
    value: rest.value,
    meaning: rest.meaning,
    place: rest.place ?? null,
    bits: [],
    problem: rest.problem ?? null,
  };
}

/** Bytes as a value: hexadecimal, cut where it gets long. */
export function bytesValue(bytes: Uint8Array): string {
  const shown = hexBytes(bytes.subarray(0, SHOWN_BYTES));
  return bytes.length > SHOWN_BYTES ? `${shown}… (${bytes.length} bytes)` : shown;
}

function fieldValue<Name extends string>(decoded: Decoded<Name>, field: Field & { readonly name: Name }): string {
  const value = decoded.value(field.name);
  if (value instanceof Uint8Array) {
    if (field.show === 'text') {
      const end = value.indexOf(0);
      return visible(new TextDecoder('utf-8').decode(end < 0 ? value : value.subarray(0, end)));
    }
    return bytesValue(value);
  }
  switch (field.show) {
    case 'hex':
      return `0x${value.toString(16).padStart(fieldLength(field) * 2, '0')}`;
    case 'hostOffset':
      return hex(value);
    case 'size':
      return exactSize(value);
    case 'enum':
      return `${value} (${('values' in field ? field.values[Number(value)] : undefined) ?? 'unknown'})`;
    case 'time':
      return `${dateText(Number(value))} (${value})`;
    case 'bits': {
      const set = bitViews(BigInt(value), field.bits ?? [], () => undefined).filter((bit) => bit.set);
      return set.length === 0 ? hex(value) : `${hex(value)} (${set.map(({ name }) => name).join(', ')})`;
    }
    case 'number':
    case 'text':
      return value.toString();
  }
}

function defaultPlace<Name extends string>(decoded: Decoded<Name>, field: Field & { readonly name: Name }, fileSize: number): Place | null {
  if (field.show !== 'hostOffset') {
    return null;
  }
  const hostOffset = decoded.number(field.name);
  // 0 stands for "none" in every offset field; a link that leads past the end leads nowhere.
  return hostOffset > 0 && hostOffset < fileSize ? { kind: 'host', hostOffset } : null;
}

/** Every declared bit, and every other one that is set. */
export function bitViews(
  word: bigint,
  declared: readonly BitRange[],
  ownName: (bit: number) => string | undefined,
): FieldView['bits'][number][] {
  const bits: FieldView['bits'][number][] = declared.map(({ name, lowBit, meaning }) => ({
    bit: lowBit,
    name,
    set: ((word >> BigInt(lowBit)) & 1n) !== 0n,
    known: true,
    meaning,
  }));
  for (let bit = 0; bit < 64; bit++) {
    if (((word >> BigInt(bit)) & 1n) !== 0n && !declared.some(({ lowBit }) => lowBit === bit)) {
      const own = ownName(bit);
      bits.push({
        bit,
        name: own === undefined ? `unknown bit ${bit}` : visible(own),
        set: true,
        known: false,
        meaning: own === undefined ? 'No specification known here names this bit.' : 'Named by the feature name table of the image only.',
      });
    }
  }
  return bits.sort((a, b) => a.bit - b.bit);
}
