import type { Pace } from '../pace';
import type { LayerMapping } from './layerMapping';
import { UNIT, UNOWNED, Window, WINDOW_UNITS, type UnitKind } from './window';

/** Receives the map of a stretch of the guest disk in address order, without gaps. */
export interface MapVisitor {
  /** Units `from` to `to` (exclusive) of the window, all of them owned, none of them split. The window is reused after the call. */
  units(window: Window, from: number, to: number): void;
  /** Guest bytes from `start` to `end` that no table decides: `kind` is what they are at the layer `depth`, where the search for them ended. */
  uniform(start: number, end: number, depth: number, kind: UnitKind): void;
}

/**
 * Walks a chain along the guest disk. Each window costs the table entries of the layers that have any there, top down, until every unit
 * is owned; stretches without tables cost nothing, however long they are.
 */
export class ChainWalk {
  private readonly mappings: readonly LayerMapping[];
  private readonly complete: boolean;
  private readonly window = new Window();
  private readonly fine = new Window();

  /** @param complete whether below the last layer there is nothing (true) or something that is not open (false) */
  constructor(mappings: readonly LayerMapping[], complete: boolean) {
    this.mappings = mappings;
    this.complete = complete;
  }

  /** @throws EngineError `cancelled`, `file.io`, and whatever the visitor throws */
  async run(start: number, end: number, visitor: MapVisitor, pace: Pace): Promise<void> {
    for (let at = start; at < end;) {
      at = this.step(at, end, visitor);
      if (pace.due()) {
        await pace.turn(at - start, end - start);
      }
    }
  }

  /** Visits one stretch from `start` on and returns where it ends. */
  private step(start: number, end: number, visitor: MapVisitor): number {
    const bottom = this.bottomAt(start);
    const limit = Math.min(end, this.nextLengthAfter(start));
    let unit = Infinity;
    let next = Infinity;
    for (let depth = 0; depth <= bottom; depth++) {
      const mapping = this.mappings[depth]!;
      const allocated = mapping.nextAllocated(start);
      if (allocated !== Infinity) {
        unit = Math.min(unit, mapping.clusterSize);
        next = Math.min(next, allocated);
      }
    }
    if (next > start) {
      const stop = Math.min(limit, next);
      visitor.uniform(start, stop, bottom, this.remainderAt(bottom));
      return stop;
    }
    const span = WINDOW_UNITS * unit;
    const stop = Math.min(limit, start - (start % span) + span);
    this.window.reset(start, stop, unit);
    this.fill(this.window, 0, bottom);
    this.show(bottom, visitor);
    return stop;
  }

  /** Lays the layers from `top` to `bottom` over the window; afterwards every unit is owned. */
  private fill(window: Window, top: number, bottom: number): void {
    const remainder = this.remainderAt(bottom);
    let left = window.count;
    for (let depth = top; depth <= bottom && left > 0; depth++) {
      const mapping = this.mappings[depth]!;
      if (mapping.nextAllocated(window.start) < window.end) {
        left -= mapping.fill(window, depth === bottom && remainder === UNIT.absent);
      }
    }
    if (left > 0) {
      const { owner, kind, count } = window;
      for (let i = 0; i < count; i++) {
        if (owner[i] === UNOWNED) {
          owner[i] = bottom + 1;
          kind[i] = remainder;
        }
      }
    }
  }

  /** Passes the window on; what is not uniform within a unit is walked again in units that are fine enough. */
  private show(bottom: number, visitor: MapVisitor): void {
    const { window } = this;
    const { kind, owner, count } = window;
    let grain: number = window.unit;
    for (let depth = 0; depth <= bottom; depth++) {
      const mapping = this.mappings[depth]!;
      grain = mapping.grain > 0 ? Math.min(grain, mapping.grain) : grain;
    }
    let shown = 0;
    if (grain < window.unit) {
      for (let i = kind.indexOf(UNIT.split); i >= 0 && i < count; i = kind.indexOf(UNIT.split, shown)) {
        if (i > shown) {
          visitor.units(window, shown, i);
        }
        let top = bottom;
        let end = i;
        for (; end < count && kind[end] === UNIT.split; end++) {
          // The layers above have nothing in a split unit, or they would own it.
          top = Math.min(top, owner[end]! - 1);
        }
        this.showFine(window.unitStart(i), window.unitEnd(end), grain, top, bottom, visitor);
        shown = end;
      }
    }
    if (shown < count) {
      visitor.units(window, shown, count);
    }
  }

  private showFine(start: number, end: number, unit: number, top: number, bottom: number, visitor: MapVisitor): void {
    const span = WINDOW_UNITS * unit;
    for (let at = start; at < end;) {
      const stop = Math.min(end, at - (at % span) + span);
      this.fine.reset(at, stop, unit);
      this.fill(this.fine, top, bottom);
      visitor.units(this.fine, 0, this.fine.count);
      at = stop;
    }
  }

  /** Depth of the layer at which the search for a byte ends: the last one, or one whose backing image is too short to have it. */
  private bottomAt(guestOffset: number): number {
    const last = this.mappings.length - 1;
    let depth = 0;
    while (depth < last && this.mappings[depth + 1]!.length > guestOffset) {
      depth++;
    }
    return depth;
  }

  private remainderAt(bottom: number): UnitKind {
    return this.mappings[bottom]!.remainder ?? (bottom < this.mappings.length - 1 || this.complete ? UNIT.absent : UNIT.missing);
  }

  /** The end of the image that ends next after `guestOffset`; a window never crosses one. */
  private nextLengthAfter(guestOffset: number): number {
    let next = Infinity;
    for (const { length } of this.mappings) {
      if (length > guestOffset && length < next) {
        next = length;
      }
    }
    return next;
  }
}
