const UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40, p: 2 ** 50 };

/**
 * A byte offset as a person types it into a field of its own: `65536`, `0x10000`, `64K`, `1.5 GiB`. What the address bar takes is more, and
 * the engine's to understand. Null when it is none.
 */
export function parseOffset(text: string): number | null {
  const compact = text.replace(/[\s_,]/g, '');
  if (/^0x[0-9a-f]+$/i.test(compact)) {
    return safe(Number(compact));
  }
  const match = /^(\d+(?:\.\d+)?)([a-z]?)(?:i?b)?$/i.exec(compact);
  const factor = UNITS[match?.[2]?.toLowerCase() ?? '?'];
  return match?.[1] === undefined || factor === undefined ? null : safe(Number(match[1]) * factor);
}

function safe(offset: number): number | null {
  return Number.isSafeInteger(offset) ? offset : null;
}
