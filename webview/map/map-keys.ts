/** Zoom of one key press or button. */
export const ZOOM_STEP = Math.SQRT2;

/** What the keyboard does to a map. */
export interface MapKeys {
  /** Moves the cursor by cells. */
  step(right: number, down: number): void;
  /** Moves the map by CSS pixels. */
  pan(right: number, down: number): void;
  zoom(factor: number): void;
  fit(): void;
  pick(): void;
}

const ARROWS: Readonly<Record<string, readonly [right: number, down: number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** Does what a key means; keys with a modifier but shift, and those that mean nothing here, are left to others. */
export function onMapKey(
  event: KeyboardEvent,
  keys: MapKeys,
  { width, height }: { readonly width: number; readonly height: number },
): void {
  if (event.altKey || event.metaKey || event.ctrlKey) {
    return;
  }
  const arrow = ARROWS[event.key];
  const page = Math.max(1, Math.round(height / 2));
  if (arrow !== undefined) {
    const [right, down] = arrow;
    if (event.shiftKey) {
      keys.pan((right * width) / 8, (down * height) / 8);
    } else {
      keys.step(right, down);
    }
    event.preventDefault();
    return;
  }
  switch (event.key) {
    case 'PageUp':
      keys.pan(0, -page);
      break;
    case 'PageDown':
      keys.pan(0, page);
      break;
    case '+':
    case '=':
      keys.zoom(ZOOM_STEP);
      break;
    case '-':
      keys.zoom(1 / ZOOM_STEP);
      break;
    case 'Home':
      keys.fit();
      break;
    case 'Enter':
    case ' ':
      keys.pick();
      break;
    default:
      return;
  }
  event.preventDefault();
}
