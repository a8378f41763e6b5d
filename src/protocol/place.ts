/**
 * Places in an image that a link can lead to. Offsets are bytes; `hostOffset` is an offset in the image file, `guestOffset` on the virtual
 * disk.
 */
export type Place =
  | { readonly kind: 'host'; readonly hostOffset: number; readonly length?: number }
  | { readonly kind: 'guest'; readonly guestOffset: number; readonly length?: number }
  | { readonly kind: 'tableRow'; readonly table: TableId; readonly row: number }
  | { readonly kind: 'snapshot'; readonly index: number }
  | { readonly kind: 'bitmap'; readonly index: number }
  | { readonly kind: 'file'; readonly path: string };

/** Which mapping of guest to host: the active layer's, or that of an internal snapshot (its index in the snapshot table). */
export type LayerView = { readonly kind: 'active' } | { readonly kind: 'snapshot'; readonly index: number };

/**
 * The tables of an image. `l2` is all L2 tables in a row (row = guest cluster), `refcounts` all refcount blocks in a row (row = host
 * cluster), so that one virtual list shows millions of entries.
 */
export type TableId =
  | { readonly kind: 'l1'; readonly view: LayerView }
  | { readonly kind: 'l2'; readonly view: LayerView }
  | { readonly kind: 'refcountTable' }
  | { readonly kind: 'refcounts' }
  | { readonly kind: 'bitmapTable'; readonly index: number };
