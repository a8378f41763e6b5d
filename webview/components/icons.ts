import { html, svg, type TemplateResult } from 'lit';

/* A small set of line icons on VS Code's 16 pixel grid. */

const DRAWINGS = {
  back: svg`<path d="M9.5 3.5 5 8l4.5 4.5M5 8h8.5" />`,
  forward: svg`<path d="M6.5 3.5 11 8l-4.5 4.5M11 8H2.5" />`,
  up: svg`<path d="M3.5 9.5 8 5l4.5 4.5" />`,
  down: svg`<path d="M3.5 6.5 8 11l4.5-4.5" />`,
  right: svg`<path d="M6 3.5 10.5 8 6 12.5" />`,
  close: svg`<path d="m4 4 8 8M12 4l-8 8" />`,
  copy: svg`<path d="M5.5 5.5h7v8h-7zM10.5 5.5v-3h-7v8h2" />`,
  more: svg`<path d="M3.5 8h.01M8 8h.01M12.5 8h.01" stroke-width="2" />`,
  error: svg`<circle cx="8" cy="8" r="5.8" /><path d="m5.8 5.8 4.4 4.4M10.2 5.8l-4.4 4.4" />`,
  warning: svg`<path d="M8 2.2 14.2 13.3H1.8zM8 6.3v3.4M8 11.5h.01" />`,
  info: svg`<circle cx="8" cy="8" r="5.8" /><path d="M8 7.4v3.6M8 5.1h.01" />`,
  pass: svg`<circle cx="8" cy="8" r="5.8" /><path d="m5.3 8.2 1.9 1.9 3.5-4" />`,
  run: svg`<path d="M4.5 2.8v10.4L12.8 8z" />`,
  stop: svg`<path d="M4 4h8v8H4z" />`,
  refresh: svg`<path d="M13 8a5 5 0 1 1-1.6-3.7M13 2.5v2.6h-2.6" />`,
  zoomIn: svg`<path d="M8 3.5v9M3.5 8h9" />`,
  zoomOut: svg`<path d="M3.5 8h9" />`,
  fit: svg`<path d="M2.5 5.5v-3h3M10.5 2.5h3v3M13.5 10.5v3h-3M5.5 13.5h-3v-3" />`,
  search: svg`<circle cx="7" cy="7" r="4.3" /><path d="m10.2 10.2 3.6 3.6" />`,
  open: svg`<path d="M12.5 9v4.5h-10v-10H7M9.5 2.5h4v4M13.2 2.8 7.5 8.5" />`,
  lock: svg`<path d="M3.5 7.5h9v6h-9zM5.5 7.5v-2a2.5 2.5 0 0 1 5 0v2" />`,
  missing: svg`<path d="M3.5 1.8h5.6l3.4 3.4v9h-9zM6.2 8l3.6 3.6M9.8 8l-3.6 3.6" />`,
  file: svg`<path d="M3.5 1.8h5.6l3.4 3.4v9h-9zM9 1.8v3.5h3.5" />`,
  checked: svg`<path d="M2.5 2.5h11v11h-11zM5 8.2l2.1 2.1L11.2 6" />`,
  unchecked: svg`<path d="M2.5 2.5h11v11h-11z" />`,
  side: svg`<path d="M2.5 2.5h11v11h-11zM9.5 2.5v11" />`,
} as const;

export type IconName = keyof typeof DRAWINGS;

/** An icon that says nothing by itself: the text beside it, or the button's label, does. */
export function icon(name: IconName): TemplateResult {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true">${DRAWINGS[name]}</svg>`;
}

export const SEVERITY_ICONS = { error: 'error', warning: 'warning', info: 'info' } as const satisfies Record<string, IconName>;
