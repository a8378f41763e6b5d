/*
 * Messages between the page and the test as text. VS Code clones what is posted, typed arrays included; here they travel as base64. The page
 * has the same two functions of its own (see browserSide.ts).
 */

interface PackedArray {
  readonly $array: 'Uint8Array' | 'Uint16Array';
  readonly base64: string;
}

export function pack(message: unknown): string {
  return JSON.stringify(message, (_, value: unknown) => {
    if (value instanceof Uint8Array || value instanceof Uint16Array) {
      return { $array: value instanceof Uint8Array ? 'Uint8Array' : 'Uint16Array', base64: base64Of(value) } satisfies PackedArray;
    }
    return value;
  });
}

export function unpack(text: string): unknown {
  return JSON.parse(text, (_, value: unknown) => (isPacked(value) ? arrayOf(value) : value)) as unknown;
}

function base64Of(array: Uint8Array | Uint16Array): string {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64');
}

function arrayOf({ $array, base64 }: PackedArray): Uint8Array | Uint16Array {
  const bytes = Uint8Array.from(Buffer.from(base64, 'base64'));
  return $array === 'Uint8Array' ? bytes : new Uint16Array(bytes.buffer);
}

function isPacked(value: unknown): value is PackedArray {
  return typeof value === 'object' && value !== null && '$array' in value;
}
