/* The theme's colours as numbers, for what is painted pixel by pixel. */

/** Calls back whenever VS Code changed the theme (it rewrites the root's style and the body's class). Returns how to stop that. */
export function onThemeChange(callback: () => void): () => void {
  const observer = new MutationObserver(callback);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ['style', 'class'] });
  observer.observe(document.body, { attributes: true, attributeFilter: ['class', 'data-vscode-theme-id'] });
  return () => observer.disconnect();
}

/** Red, green, blue, alpha; 0..255 each. */
export type Rgba = readonly [number, number, number, number];

let pixel: OffscreenCanvasRenderingContext2D | null = null;

/** Resolves a CSS custom property of an element, whatever its notation, to a colour. */
export function colourOf(element: Element, property: string): Rgba {
  const probe = document.createElement('span');
  probe.style.color = `var(${property})`;
  probe.hidden = true;
  (element.shadowRoot ?? element).append(probe);
  const notation = getComputedStyle(probe).color;
  probe.remove();
  pixel ??= new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  if (pixel === null) {
    throw new Error('The browser offers no 2D canvas.');
  }
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = notation;
  pixel.fillRect(0, 0, 1, 1);
  const [red = 0, green = 0, blue = 0, alpha = 0] = pixel.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha];
}

export function cssColour([red, green, blue, alpha]: Rgba): string {
  return `rgb(${red} ${green} ${blue} / ${alpha / 255})`;
}

/** A mixture; `share` of the first, 0..1. */
export function mixed(first: Rgba, second: Rgba, share: number): Rgba {
  const channel = (at: 0 | 1 | 2 | 3) => Math.round(first[at] * share + second[at] * (1 - share));
  return [channel(0), channel(1), channel(2), channel(3)];
}
