/** One array with all the parts, one after the other. */
export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/** The parts, one after the other, with zeroes behind them up to a multiple of `alignment` bytes. */
export function concatenatePadded(alignment: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return concatenate([...parts, new Uint8Array(Math.ceil(length / alignment) * alignment - length)]);
}
