import type { GuestClass, HostClass } from '../../src/protocol/inspect';
import { baseName, visible } from '../format/text';

/**
 * How a class of clusters looks: the CSS property that holds its colour (main.css defines them from the theme's own), the mark that
 * stands in swatches and in large cells for those who do not tell the colours apart, and its name.
 */
export interface ClassLook {
  readonly colour: string;
  readonly mark: string;
  readonly label: string;
  /** The colour is mixed with the background's, so that the mark stands out in the foreground's. */
  readonly pale?: boolean;
}

export const GUEST_CLASSES: Readonly<Record<GuestClass, ClassLook>> = {
  unallocated: { colour: '--cs-class-none', mark: '', label: 'Unallocated' },
  data: { colour: '--cs-class-data', mark: 'D', label: 'Data' },
  zero: { colour: '--cs-class-zero', mark: '0', label: 'Zero' },
  compressed: { colour: '--cs-class-compressed', mark: 'C', label: 'Compressed' },
  unknown: { colour: '--cs-class-unknown', mark: '?', label: 'Unknown', pale: true },
};

export const HOST_CLASSES: Readonly<Record<HostClass, ClassLook>> = {
  header: { colour: '--cs-class-header', mark: 'H', label: 'Header' },
  l1: { colour: '--cs-class-l1', mark: '1', label: 'L1 table' },
  l2: { colour: '--cs-class-l2', mark: '2', label: 'L2 table', pale: true },
  refcountTable: { colour: '--cs-class-refcount-table', mark: 'R', label: 'Refcount table' },
  refcountBlock: { colour: '--cs-class-refcount-block', mark: 'r', label: 'Refcount block', pale: true },
  snapshotTable: { colour: '--cs-class-snapshot', mark: 'S', label: 'Snapshot table' },
  bitmap: { colour: '--cs-class-bitmap', mark: 'B', label: 'Bitmap' },
  encryption: { colour: '--cs-class-encryption', mark: 'E', label: 'Encryption header' },
  data: { colour: '--cs-class-data', mark: 'D', label: 'Data' },
  compressed: { colour: '--cs-class-compressed', mark: 'C', label: 'Compressed data' },
  free: { colour: '--cs-class-none', mark: '', label: 'Free' },
  leaked: { colour: '--cs-class-leaked', mark: 'L', label: 'Leaked' },
  corrupt: { colour: '--cs-class-corrupt', mark: '!', label: 'Corrupt' },
};

/** Colours for the layers of a chain, taken in turn. */
const LAYER_COLOURS = [
  '--cs-class-data',
  '--cs-class-compressed',
  '--cs-class-refcount-table',
  '--cs-class-l1',
  '--cs-class-snapshot',
  '--cs-class-bitmap',
  '--cs-class-leaked',
  '--cs-class-l2',
  '--cs-class-refcount-block',
  '--cs-class-encryption',
] as const;

function isGuestClass(id: string): id is GuestClass {
  return Object.hasOwn(GUEST_CLASSES, id);
}

function isHostClass(id: string): id is HostClass {
  return Object.hasOwn(HOST_CLASSES, id);
}

/** The look of a legend's class. `index` is its place in the legend; layers, which have no class of their own, take theirs from it. */
export function lookOf(id: string, index: number): ClassLook {
  if (isGuestClass(id)) {
    return GUEST_CLASSES[id];
  }
  if (isHostClass(id)) {
    return HOST_CLASSES[id];
  }
  const layer = Math.max(0, index - 1);
  return { colour: LAYER_COLOURS[layer % LAYER_COLOURS.length] ?? '--cs-class-data', mark: String(layer), label: id };
}

/** A class's name where there is little room: of a layer, its file's name. */
export function shortLabel({ id, label }: { readonly id: string; readonly label: string }): string {
  return visible(isGuestClass(id) || isHostClass(id) ? label : baseName(label));
}
