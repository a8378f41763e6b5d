/* Marks in the page's performance timeline, for the benchmark. */

export const OVERVIEW_PAINTED = 'chainscope-overview-painted';
export const MAP_PAINTED = 'chainscope-map-painted';

/** Resolves when what was rendered just now is on the screen: the first task after the next frame. */
export function afterPaint(): Promise<void> {
  return new Promise((resolve) => {
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        resolve();
      };
      port2.postMessage(null);
    });
  });
}

export async function markAfterPaint(name: string): Promise<void> {
  await afterPaint();
  performance.mark(name);
}
