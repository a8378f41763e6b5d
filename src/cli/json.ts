/** What can be written as JSON; 64-bit numbers as bigint. `undefined` members are left out. */
export type JsonValue =
  string | number | bigint | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue | undefined };

/**
 * The order in which qemu-img 7.2 writes the members of its objects. It comes from a hash table there, so it is neither alphabetical nor
 * the schema's; it is the same for every object, so one list serves all. Our own keys are put where they read well: last.
 */
const KEY_ORDER: ReadonlyMap<string, number> = new Map(
  [
    'ivgen-alg',
    'compat',
    'icount',
    'flags',
    'vm-clock-nsec',
    'image-end-offset',
    'name',
    'active',
    'compressed-clusters',
    'hash-alg',
    'iters',
    'compression-type',
    'compressed',
    'cid',
    'lazy-refcounts',
    'encrypt.format',
    'date-sec',
    'bitmaps',
    'cipher-alg',
    'refcount-bits',
    'parent-cid',
    'uuid',
    'total-clusters',
    'corruptions',
    'data-file',
    'ivgen-hash-alg',
    'corruptions-fixed',
    'check-errors',
    'backing-filename-format',
    'date-nsec',
    'encrypt.key-secret',
    'driver',
    'granularity',
    'leaks',
    'create-type',
    'snapshots',
    'key-offset',
    'leaks-fixed',
    'allocated-clusters',
    'virtual-size',
    'filename',
    'cluster-size',
    'format',
    'encrypt',
    'actual-size',
    'format-specific',
    'data-file-raw',
    'full-backing-filename',
    'cipher-mode',
    'stripes',
    'slots',
    'vm-clock-sec',
    'payload-offset',
    'encrypted',
    'type',
    'extents',
    'master-key-iters',
    'file',
    'backing-filename',
    'corrupt',
    'fragmented-clusters',
    'id',
    'vm-state-size',
    'key-secret',
    'dirty-flag',
    'extended-l2',
    'data',
  ].map((key, index) => [key, index]),
);

/** The members of an object in qemu-img's order; keys that it does not know keep their own order behind. */
export function orderedEntries(object: Readonly<Record<string, JsonValue | undefined>>): [string, JsonValue][] {
  const rank = (key: string) => KEY_ORDER.get(key) ?? KEY_ORDER.size;
  return Object.entries(object)
    .filter((entry): entry is [string, JsonValue] => entry[1] !== undefined)
    .sort(([left], [right]) => rank(left) - rank(right));
}

/** JSON laid out as qemu-img lays it out: four spaces a level, an empty array on two lines, everything beyond ASCII escaped. */
export function prettyJson(value: JsonValue): string {
  return encode(value, '\n');
}

/** JSON on one line, as in QEMU's `json:` file names. */
export function compactJson(value: JsonValue): string {
  return encode(value, null);
}

function encode(value: JsonValue, newline: string | null): string {
  if (typeof value === 'string') {
    return quote(value);
  }
  if (typeof value !== 'object' || value === null) {
    return String(value);
  }
  const inner = newline === null ? null : `${newline}    `;
  if (isArray(value)) {
    return enclose(
      '[',
      value.map((element) => encode(element, inner)),
      ']',
      newline,
    );
  }
  return enclose(
    '{',
    orderedEntries(value).map(([key, member]) => `${quote(key)}: ${encode(member, inner)}`),
    '}',
    newline,
  );
}

function enclose(open: string, parts: readonly string[], close: string, newline: string | null): string {
  if (newline === null) {
    return open + parts.join(', ') + close;
  }
  const inner = `${newline}    `;
  return open + (parts.length > 0 ? inner + parts.join(`,${inner}`) : '') + newline + close;
}

function isArray(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

function quote(text: string): string {
  const escaped = text.replace(/[^ !#-[\]-~]/g, (unit) => {
    return ESCAPES[unit] ?? `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
  });
  return `"${escaped}"`;
}
