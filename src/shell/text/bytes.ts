const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** A number of bytes in the largest binary unit that keeps it at least 1, with three significant digits: `64 KiB`, `1.21 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 1023.5 of a unit would round to 1024 of it.
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const rounded = value >= 100 ? Math.round(value) : Number(value.toPrecision(3));
  return `${rounded} ${UNITS[unit] ?? 'B'}`;
}

/** The same with the exact count behind it: `64 KiB (65,536 bytes)`. */
export function formatBytesExactly(bytes: number): string {
  return bytes < 1024 ? `${bytes} bytes` : `${formatBytes(bytes)} (${bytes.toLocaleString('en-US')} bytes)`;
}
