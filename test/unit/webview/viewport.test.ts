import { describe, expect, it } from 'vitest';
import { MapViewport } from '../../../webview/map/viewport';

/** A map of 4096 by 4096 cells, 1 TiB in clusters of 64 KiB, on a canvas of 1000 by 800. */
function bigMap(): MapViewport {
  const viewport = new MapViewport(4096, 4096);
  viewport.resize(1000, 800);
  return viewport;
}

describe('a map on its canvas', () => {
  it('fits at first, and goes on fitting when the canvas changes', () => {
    const viewport = bigMap();
    expect(viewport.isFitted).toBe(true);
    expect(viewport.rect(0, 0, 0, 4096, 4096)).toEqual({ left: 116, top: 16, right: 884, bottom: 784 });
    viewport.resize(500, 400);
    expect(viewport.rect(0, 0, 0, 4096, 4096)).toEqual({ left: 58, top: 8, right: 442, bottom: 392 });
  });

  it('shows cells of at least one pixel, by the level', () => {
    const viewport = bigMap();
    expect([viewport.scale, viewport.level(13)]).toEqual([0.1875, 3]);
    viewport.zoomAtCenter(8);
    expect([viewport.scale, viewport.level(13)]).toEqual([1.5, 0]);
    expect(new MapViewport(1, 1).level(1)).toBe(0);
  });

  it('zooms around the point under the pointer', () => {
    const viewport = bigMap();
    const before = viewport.cellAt(700, 300, 0);
    viewport.zoomAt(700, 300, 4);
    viewport.zoomAt(700, 300, 3);
    const after = viewport.cellAt(700, 300, 0);
    expect(after).toEqual(before);
  });

  it('zooms no further in than a readable cell and no further out than the whole', () => {
    const viewport = bigMap();
    viewport.zoomAtCenter(1e9);
    expect(viewport.scale).toBe(64);
    viewport.zoomAtCenter(1e-9);
    expect([viewport.scale, viewport.isFitted]).toEqual([0.1875, true]);
  });

  it('does not blow up an image of a few clusters', () => {
    const viewport = new MapViewport(2, 2);
    viewport.resize(1000, 800);
    expect(viewport.rect(0, 0, 0, 2, 2)).toEqual({ left: 436, top: 336, right: 564, bottom: 464 });
  });

  it('cannot be panned out of sight', () => {
    const viewport = bigMap();
    viewport.zoomAtCenter(4);
    viewport.panBy(1e9, -1e9);
    const { right, top } = viewport.rect(0, 0, 0, 4096, 4096);
    expect([right, top]).toEqual([980, 16]);
  });

  it('names only cells that exist', () => {
    const viewport = bigMap();
    expect([viewport.cellAt(0, 0, 0), viewport.cellAt(117, 17, 3), viewport.cellAt(883.9, 783.9, 3)]).toEqual([
      null,
      { x: 0, y: 0 },
      { x: 511, y: 511 },
    ]);
  });

  it('asks for the tiles in sight and no others', () => {
    const viewport = bigMap();
    expect(viewport.visible(3, 256)).toEqual({ left: 0, top: 0, right: 2, bottom: 2 });
    viewport.zoomAtCenter(8);
    // 1000 by 800 pixels at 1.5 a cell are 667 by 533 cells around the middle.
    expect(viewport.visible(0, 256)).toEqual({ left: 6, top: 6, right: 10, bottom: 10 });
  });

  it('leaves no seam between neighbouring tiles, whatever the scale', () => {
    const viewport = bigMap();
    for (let step = 0; step < 40; step++) {
      viewport.zoomAt(613, 271, 1.17);
      const level = viewport.level(13);
      expect(viewport.rect(level, 256, 256, 256, 256).left).toBe(viewport.rect(level, 0, 0, 256, 256).right);
    }
  });

  it('brings a cell into sight, large enough to see', () => {
    const viewport = bigMap();
    viewport.reveal(4000, 17, 10);
    expect(viewport.scale).toBe(10);
    const { left, top, right, bottom } = viewport.rect(0, 4000, 17, 1, 1);
    expect([left >= 0, top >= 0, right <= 1000, bottom <= 800]).toEqual([true, true, true, true]);
  });

  it('moves no more than it must for a cell that is nearly in sight', () => {
    const viewport = bigMap();
    viewport.reveal(2000, 2000, 10);
    const before = viewport.kept;
    viewport.reveal(2001, 2001, 10);
    expect(viewport.kept).toEqual(before);
  });

  it('comes back where it was left', () => {
    const viewport = bigMap();
    viewport.zoomAt(300, 300, 9);
    const { kept } = viewport;
    const again = new MapViewport(4096, 4096);
    again.restore(kept);
    again.resize(1000, 800);
    expect(again.kept.scale).toBe(kept.scale);
    expect(again.kept.centerX).toBeCloseTo(kept.centerX, 6);
    expect(again.kept.centerY).toBeCloseTo(kept.centerY, 6);
  });

  it('stays exact on a map of 64 TiB', () => {
    const viewport = new MapViewport(32768, 32768);
    viewport.resize(1000, 800);
    viewport.reveal(32767, 32767, 20);
    expect(viewport.cellAt(viewport.rect(0, 32767, 32767, 1, 1).left + 1, viewport.rect(0, 32767, 32767, 1, 1).top + 1, 0)).toEqual({
      x: 32767,
      y: 32767,
    });
  });
});
