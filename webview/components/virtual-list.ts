import {
  elementScroll,
  measureElement,
  observeElementOffset,
  observeElementRect,
  Virtualizer,
  type VirtualItem,
} from '@tanstack/virtual-core';
import type { ReactiveController, ReactiveControllerHost } from 'lit';

/**
 * Virtual scrolling of some thousand rows of different heights, by @tanstack/virtual-core. For millions of equal rows see RowWindow: this
 * one holds a number for each row and a real element as high as all of them.
 */
export class VirtualList implements ReactiveController {
  private readonly host: ReactiveControllerHost;
  private readonly virtualizer: Virtualizer<HTMLElement, HTMLElement>;
  private element: HTMLElement | null = null;
  private unmount: (() => void) | null = null;

  constructor(host: ReactiveControllerHost, estimateSize: (index: number) => number) {
    this.host = host;
    this.virtualizer = new Virtualizer({
      count: 0,
      estimateSize,
      getScrollElement: () => this.element,
      scrollToFn: elementScroll,
      observeElementRect,
      observeElementOffset,
      measureElement,
      overscan: 6,
      onChange: () => this.host.requestUpdate(),
    });
    host.addController(this);
  }

  /** Height of all rows, pixels. */
  get totalHeight(): number {
    return this.virtualizer.getTotalSize();
  }

  get items(): readonly VirtualItem[] {
    return this.virtualizer.getVirtualItems();
  }

  /** To be called before rendering: how many rows, and what tells them apart. */
  setRows(count: number, keyOf: (index: number) => string): void {
    if (this.virtualizer.options.count !== count || this.virtualizer.options.getItemKey !== keyOf) {
      this.virtualizer.setOptions({ ...this.virtualizer.options, count, getItemKey: keyOf });
      this.virtualizer.measure();
    }
  }

  /** To be called after rendering: the element that scrolls, and what holds the rows (elements with `data-index`). */
  attach(element: HTMLElement | null, rows: ParentNode): void {
    this.element = element;
    if (element === null) {
      this.unmount?.();
      this.unmount = null;
      return;
    }
    this.unmount ??= this.virtualizer._didMount();
    this.virtualizer._willUpdate();
    for (const row of rows.querySelectorAll<HTMLElement>('[data-index]')) {
      this.virtualizer.measureElement(row);
    }
  }

  scrollTo(index: number): void {
    this.virtualizer.scrollToIndex(index, { align: 'auto' });
  }

  hostDisconnected(): void {
    this.unmount?.();
    this.unmount = null;
  }
}
