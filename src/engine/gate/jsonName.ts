/** A `json:` name nests drivers; deeper than this is no description of a file. */
const MAX_DEPTH = 16;

/**
 * The local file that a `json:` name leads to when all it describes is a file read through the `file` driver, perhaps below format
 * drivers (`{"driver":"qcow2","file":{"driver":"file","filename":"x"}}`, or with QEMU's dotted keys); null for everything else. Any
 * other driver, and any option that changes what is read (`offset`, `size`), means that the file alone is not what is named.
 */
export function jsonFileName(name: string): string | null {
  const node = describedNode(name);
  const { driver, filename } = node ?? {};
  return typeof filename === 'string' && (driver === 'file' || driver === undefined) ? filename : null;
}

/** The options of a node, nested. */
export type NodeOptions = Readonly<Record<string, unknown>>;

/** The protocol driver's node that a `json:` name describes, at the bottom of format drivers that only pass its bytes through; else null. */
export function describedNode(name: string): NodeOptions | null {
  let value: unknown;
  try {
    value = parseJsonOptions(name.slice('json:'.length));
  } catch {
    // Not JSON: a name that QEMU refuses too.
    return null;
  }
  return isObject(value) ? bottomOf(nested(value, MAX_DEPTH), MAX_DEPTH) : null;
}

/**
 * JSON as QEMU reads it: strings may also stand in single quotes, and in any string `\\'` is a single quote.
 * @throws SyntaxError
 */
export function parseJsonOptions(text: string): unknown {
  const strings = /"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'/gs;
  const standard = text.replace(strings, (_, double: string | undefined, single: string | undefined) => {
    const inner = double ?? single ?? '';
    return `"${inner.replace(/\\.|"/gs, (part) => (part === '"' ? '\\"' : part === "\\'" ? "'" : part))}"`;
  });
  return JSON.parse(standard);
}

/** Drivers whose `file` child is the image itself. */
const FORMATS = new Set(['raw', 'qcow2', 'qed', 'vmdk']);

type Options = Record<string, unknown>;

function bottomOf(options: Options, depth: number): Options | null {
  const { driver, filename, file, offset, size } = options;
  if (depth === 0 || offset !== undefined || size !== undefined) {
    return null;
  }
  if (isObject(file) && filename === undefined && (driver === undefined || (typeof driver === 'string' && FORMATS.has(driver)))) {
    return bottomOf(file, depth - 1);
  }
  return file === undefined && !(typeof driver === 'string' && FORMATS.has(driver)) ? options : null;
}

/** Turns `{"file.filename": "x"}` into `{"file": {"filename": "x"}}`. */
export function nested(flat: NodeOptions, depth = MAX_DEPTH): Record<string, unknown> {
  const result: Options = Object.create(null) as Options;
  for (const [key, value] of Object.entries(flat)) {
    const parts = key.split('.');
    if (parts.length > MAX_DEPTH) {
      return {};
    }
    const last = parts.pop() ?? '';
    let inner = result;
    for (const part of parts) {
      const next = inner[part];
      const child: Options = isObject(next) ? next : (Object.create(null) as Options);
      inner[part] = child;
      inner = child;
    }
    inner[last] = isObject(value) && depth > 0 ? nested(value, depth - 1) : value;
  }
  return result;
}

function isObject(value: unknown): value is Options {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
