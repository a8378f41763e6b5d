import type { ImageInfo } from '../engine/info/imageInfo';
import type { JsonValue } from './json';

/** An image's information under QAPI's names: `virtualSize` is `virtual-size`, and so all the way down. */
export function infoJson(info: ImageInfo): Readonly<Record<string, JsonValue>> {
  return hyphenated(info) as Readonly<Record<string, JsonValue>>;
}

function hyphenated(value: unknown): JsonValue {
  if (Array.isArray(value)) {
    return value.map(hyphenated);
  }
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [
        key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
        member === undefined ? undefined : hyphenated(member),
      ]),
    );
  }
  return value as JsonValue;
}
