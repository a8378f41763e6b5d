/** Selected bytes: from where the selection was begun to where the cursor is, both included. */
export interface HexSelection {
  readonly anchor: number;
  readonly cursor: number;
}

export function firstOf({ anchor, cursor }: HexSelection): number {
  return Math.min(anchor, cursor);
}

export function lengthOf({ anchor, cursor }: HexSelection): number {
  return Math.abs(cursor - anchor) + 1;
}

export function isSelected({ anchor, cursor }: HexSelection, offset: number): boolean {
  return offset >= Math.min(anchor, cursor) && offset <= Math.max(anchor, cursor);
}

/** Moves the cursor, kept inside a file of so many bytes; `extend` leaves the anchor where it is. */
export function movedTo(selection: HexSelection, cursor: number, extend: boolean, fileSize: number): HexSelection {
  const inside = Math.min(Math.max(0, cursor), Math.max(0, fileSize - 1));
  return { anchor: extend ? selection.anchor : inside, cursor: inside };
}

/** What a key means for the cursor in rows of `width` bytes; null when it means nothing. */
export function cursorAfterKey(
  key: string,
  control: boolean,
  cursor: number,
  { width, pageRows, fileSize }: { readonly width: number; readonly pageRows: number; readonly fileSize: number },
): number | null {
  const column = cursor % width;
  switch (key) {
    case 'ArrowLeft':
      return cursor - 1;
    case 'ArrowRight':
      return cursor + 1;
    case 'ArrowUp':
      return cursor - width < 0 ? cursor : cursor - width;
    case 'ArrowDown':
      return cursor + width >= fileSize ? cursor : cursor + width;
    case 'PageUp':
      return Math.max(column, cursor - width * pageRows);
    case 'PageDown':
      return cursor + width * pageRows;
    case 'Home':
      return control ? 0 : cursor - column;
    case 'End':
      return control ? fileSize - 1 : cursor - column + width - 1;
    default:
      return null;
  }
}
