/* Numbers as a person reads them. Sizes are bytes; units are binary, as qemu-img prints them. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

const grouping = new Intl.NumberFormat('en-US');

/** `16777216` -> `16,777,216`. */
export function grouped(value: number): string {
  return grouping.format(value);
}

/** `0x1f0000`. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

/** `1.94 MiB`, `64 KiB`, `512 B`: three significant digits, none after the point when it is exact. */
export function size(bytes: number): string {
  let unit = 0;
  let value = bytes;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const text = Number.isInteger(value) ? grouped(value) : String(Number(value.toPrecision(value >= 1000 ? 4 : 3)));
  return `${text} ${UNITS[unit] ?? 'B'}`;
}

/** `2,031,616 bytes (0x1f0000)`: what stands in the tooltip of a rounded size. */
export function exactly(bytes: number): string {
  return `${grouped(bytes)} ${bytes === 1 ? 'byte' : 'bytes'} (${hex(bytes)})`;
}

/** `12.5 %`; a share that is not nothing never reads as nothing, one that is not all never as all. */
export function percent(part: number, whole: number): string {
  if (whole <= 0 || part <= 0) {
    return '0 %';
  }
  const share = (part / whole) * 100;
  if (share < 0.1) {
    return '< 0.1 %';
  }
  if (share > 99.9 && part < whole) {
    return '> 99.9 %';
  }
  return `${String(Number(share.toFixed(1)))} %`;
}

/** `1 cluster`, `2 clusters`, `3 entries`. */
export function counted(count: number, singular: string, plural = `${singular}s`): string {
  return `${grouped(count)} ${count === 1 ? singular : plural}`;
}
