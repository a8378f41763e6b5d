import { html, type TemplateResult } from 'lit';
import { send } from '../events';
import { icon } from './icons';

export interface Copies {
  /** What is copied, for the button's label and the confirmation: `L2 row 12`. */
  readonly what: string;
  readonly text: () => string;
  readonly hex: (() => string) | null;
  readonly json: () => string;
  /** Commands of QEMU's tools that show the same. */
  readonly commands: readonly string[];
}

/** Opens `Copy as ...` at a point. */
export function openCopyMenu(from: EventTarget, { what, text, hex, json, commands }: Copies, x: number, y: number): void {
  const copy = (as: string, value: string) => send(from, 'cs-copy', { text: value, what: `${what} as ${as}` });
  send(from, 'cs-menu', {
    x,
    y,
    items: [
      { label: 'Copy as Text', run: () => copy('text', text()) },
      ...(hex === null ? [] : [{ label: 'Copy as Hex', run: () => copy('hex', hex()) }]),
      { label: 'Copy as JSON', run: () => copy('JSON', json()) },
      ...commands.map((command) => ({
        label: `Copy as ${command.slice(0, command.indexOf(' '))} Command`,
        run: () => copy('command', command),
      })),
    ],
  });
}

/** A small button that opens that menu below itself. */
export function copyButton(copies: Copies): TemplateResult {
  return html`<button
    type="button"
    class="icon-button"
    aria-haspopup="menu"
    aria-label=${`Copy ${copies.what}`}
    title="Copy as…"
    @click=${(event: MouseEvent) => {
      event.stopPropagation();
      const button = event.currentTarget as HTMLElement;
      const { left, bottom } = button.getBoundingClientRect();
      openCopyMenu(button, copies, left, bottom + 2);
    }}
  >
    ${icon('copy')}
  </button>`;
}
