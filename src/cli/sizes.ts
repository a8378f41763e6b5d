const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const;

/** A number of bytes as QEMU shows it to people: `0 B`, `196 KiB`, `3.29 MiB`. Three significant digits, units change at 1000. */
export function formatSize(bytes: number): string {
  let power = 0;
  while (power < UNITS.length - 1 && bytes / 1024 ** power >= 1000) {
    power++;
  }
  return `${threeDigits(BigInt(bytes), 1024n ** BigInt(power))} ${UNITS[power] ?? ''}`;
}

/** C's `%.3g` of a quotient between 0 and 1000: rounded exactly, a tie to the even digit (JavaScript's own rounding takes ties up). */
function threeDigits(dividend: bigint, divisor: bigint): string {
  const decimals = dividend >= 100n * divisor ? 0 : dividend >= 10n * divisor ? 1 : dividend >= divisor ? 2 : 3;
  const scaled = dividend * 10n ** BigInt(decimals);
  const twiceRest = 2n * (scaled % divisor);
  const down = scaled / divisor;
  const digits = twiceRest > divisor || (twiceRest === divisor && down % 2n === 1n) ? down + 1n : down;
  if (digits === 1000n && decimals === 0) {
    // 999.9 has three digits in this form only.
    return '1e+03';
  }
  const text = digits.toString().padStart(decimals + 1, '0');
  return decimals === 0 ? text : `${text.slice(0, -decimals)}.${text.slice(-decimals)}`.replace(/\.?0+$/, '');
}
