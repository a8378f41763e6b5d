/** What pointers, the wheel and keys ask of a map. Positions are in device pixels of the canvas. */
export interface GestureTarget {
  zoomAt(x: number, y: number, factor: number): void;
  panBy(x: number, y: number): void;
  hover(at: { readonly x: number; readonly y: number } | null): void;
  pick(x: number, y: number): void;
}

/** A pointer that moved less than this many CSS pixels since it was pressed has clicked. */
const CLICK_SLACK = 4;

/** Wheel ticks to zoom: a usual tick of 100 pixels zooms by about a fifth. */
const WHEEL_SPEED = 0.0018;
/** A pinch on a touchpad comes as small wheel steps with the control key. */
const PINCH_SPEED = 0.01;

const LINE_HEIGHT = 16;

/** Turns the events of an element into gestures: the wheel zooms, a drag pans, two fingers do both. Returns how to stop. */
export function recogniseGestures(element: HTMLElement, target: GestureTarget): () => void {
  const pointers = new Map<number, { x: number; y: number }>();
  let pressed: { x: number; y: number } | null = null;
  const stopping = new AbortController();
  const options = { signal: stopping.signal };

  const positionOf = (event: MouseEvent) => {
    const { left, top } = element.getBoundingClientRect();
    const ratio = window.devicePixelRatio;
    return { x: (event.clientX - left) * ratio, y: (event.clientY - top) * ratio };
  };

  element.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const { x, y } = positionOf(event);
      const delta = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * LINE_HEIGHT : event.deltaY;
      target.zoomAt(x, y, Math.exp(-delta * (event.ctrlKey ? PINCH_SPEED : WHEEL_SPEED)));
    },
    { ...options, passive: false },
  );

  element.addEventListener(
    'pointerdown',
    (event) => {
      if (event.button !== 0) {
        return;
      }
      element.setPointerCapture(event.pointerId);
      const position = positionOf(event);
      pointers.set(event.pointerId, position);
      pressed = pointers.size === 1 ? position : null;
    },
    options,
  );

  element.addEventListener(
    'pointermove',
    (event) => {
      const now = positionOf(event);
      const before = pointers.get(event.pointerId);
      if (before === undefined) {
        target.hover(now);
        return;
      }
      if (pressed !== null && Math.hypot(now.x - pressed.x, now.y - pressed.y) < CLICK_SLACK * window.devicePixelRatio) {
        return;
      }
      pressed = null;
      target.hover(null);
      if (pointers.size === 2) {
        pinch(event.pointerId, before, now);
      } else {
        target.panBy(before.x - now.x, before.y - now.y);
      }
      pointers.set(event.pointerId, now);
    },
    options,
  );

  /** One of two fingers moved: the map follows the point between them and the distance. */
  function pinch(moved: number, before: { x: number; y: number }, now: { x: number; y: number }): void {
    for (const [id, other] of pointers) {
      if (id !== moved) {
        const distance = Math.hypot(before.x - other.x, before.y - other.y);
        const newDistance = Math.hypot(now.x - other.x, now.y - other.y);
        target.panBy((before.x - now.x) / 2, (before.y - now.y) / 2);
        if (distance > 0) {
          target.zoomAt((now.x + other.x) / 2, (now.y + other.y) / 2, newDistance / distance);
        }
      }
    }
  }

  const released = (event: PointerEvent) => {
    if (!pointers.delete(event.pointerId)) {
      return;
    }
    if (event.type === 'pointerup' && pressed !== null) {
      target.pick(pressed.x, pressed.y);
    }
    pressed = null;
  };
  element.addEventListener('pointerup', released, options);
  element.addEventListener('pointercancel', released, options);
  element.addEventListener('pointerleave', () => target.hover(null), options);

  return () => stopping.abort();
}
