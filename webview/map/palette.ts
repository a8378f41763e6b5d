import { MAP_OUTSIDE, type MapShape } from '../../src/protocol/inspect';
import { colourOf, cssColour, mixed, type Rgba } from '../theme';
import { lookOf } from './classes';

/** How strong a cell is at least that holds anything at all: a single cluster in a thousand still shows. */
const FAINTEST = 0.38;
/** What is left of the colour of a class that the legend's filter dims. */
const DIMMED = 0.14;

/** The colours of a map's classes, for one theme and one choice in the legend. */
export interface Palette {
  /** Counts up; a picture painted with an older one is painted again. */
  readonly version: number;
  /** By class and density (class * 256 + density): what a cell looks like, as canvas pixels (little-endian RGBA). */
  readonly shaded: Uint32Array;
  readonly dimmed: Uint32Array;
  /** Bits of the classes that are chosen in the legend; null when all are. */
  readonly chosen: number | null;
  /** By class: bit in `MapTile.present`. */
  readonly classes: number;
  readonly colours: readonly Rgba[];
  /** By class, for cells that are large enough. */
  readonly marks: readonly { readonly text: string; readonly colour: string }[];
}

let versions = 0;

export function makePalette(element: Element, shape: MapShape, only: ReadonlySet<string>): Palette {
  const last = Math.max(0, ...shape.classes.map(({ index }) => index));
  const none = colourOf(element, '--cs-class-none');
  const background = colourOf(element, '--vscode-editor-background');
  const colours: Rgba[] = Array.from({ length: last + 1 }, () => none);
  const marks = Array.from({ length: last + 1 }, () => ({ text: '', colour: '' }));
  const onColour = cssColour(colourOf(element, '--cs-class-mark'));
  const onPale = cssColour(colourOf(element, '--vscode-editor-foreground'));
  let chosen = 0;
  for (const { index, id } of shape.classes) {
    if (index < MAP_OUTSIDE) {
      const { colour, mark, pale } = lookOf(id, index);
      colours[index] = colourOf(element, colour);
      marks[index] = { text: mark, colour: pale === true ? onPale : onColour };
      chosen |= only.has(id) ? presentBit(index) : 0;
    }
  }
  const shaded = new Uint32Array(colours.length * 256);
  const dimmed = new Uint32Array(colours.length * 256);
  colours.forEach((colour, index) => {
    for (let density = 0; density < 256; density++) {
      const share = index === 0 ? 1 : FAINTEST + (1 - FAINTEST) * (density / 255);
      const shade = mixed(colour, none, share);
      shaded[index * 256 + density] = pixelOf(shade);
      dimmed[index * 256 + density] = pixelOf(mixed(shade, background, DIMMED));
    }
  });
  return {
    version: ++versions,
    shaded,
    dimmed,
    chosen: only.size === 0 ? null : chosen,
    classes: colours.length,
    colours,
    marks,
  };
}

/** Bit of a class in `MapTile.present`; classes from 15 on share the last. */
export function presentBit(index: number): number {
  return 1 << Math.min(index, 15);
}

function pixelOf([red, green, blue]: Rgba): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
