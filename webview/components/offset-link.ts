import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { Place } from '../../src/protocol/place';
import type { EditorTab } from '../../src/protocol/webview';
import { send } from '../events';
import { exactly, grouped, hex } from '../format/numbers';
import { describePlace } from '../state/places';
import { placeMenu } from './place-menu';
import { base } from './styles';

/** A place that a click leads to; its menu copies the number and shows the place elsewhere. Everything that is an offset is one of these. */
export class OffsetLink extends LitElement {
  static override properties = {
    place: { attribute: false },
    text: {},
    tab: {},
    inGrid: { type: Boolean, attribute: 'in-grid' },
    quiet: { type: Boolean, reflect: true },
  };

  declare place: Place;
  /** What stands there; the offset in hexadecimal when left out. */
  declare text: string | null;
  declare tab: EditorTab | null;
  /** A cell of a grid: the grid has the focus and passes Enter on. */
  declare inGrid: boolean;
  /** Looks like the text around it until it is pointed at: where nearly everything is a link. */
  declare quiet: boolean;

  static override styles = [
    base,
    css`
      :host {
        display: inline;
        font: inherit;
      }

      button {
        display: inline;
        white-space: inherit;
        overflow-wrap: anywhere;
      }

      button:focus-visible {
        outline-offset: 0;
      }

      :host([quiet]) button:not(:hover) {
        color: inherit;
      }
    `,
  ];

  constructor() {
    super();
    this.text = null;
    this.tab = null;
    this.inGrid = false;
    this.quiet = false;
    this.addEventListener('contextmenu', (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.openMenu(event.clientX, event.clientY);
    });
  }

  /** Goes there. */
  follow(): void {
    send(this, 'cs-go', this.tab === null ? { place: this.place } : { place: this.place, tab: this.tab });
  }

  private openMenu(x: number, y: number): void {
    send(this, 'cs-menu', { x, y, items: placeMenu(this, this.place) });
  }

  protected override render(): TemplateResult {
    return html`<button
      type="button"
      role="link"
      class="link"
      title=${titleOf(this.place)}
      tabindex=${this.inGrid ? -1 : nothing}
      aria-label=${this.text === null ? describePlace(this.place) : nothing}
      @click=${() => this.follow()}
    >
      ${this.text ?? textOf(this.place)}
    </button>`;
  }
}

function textOf(place: Place): string {
  switch (place.kind) {
    case 'host':
      return hex(place.hostOffset);
    case 'guest':
      return hex(place.guestOffset);
    case 'tableRow':
      return grouped(place.row);
    default:
      return describePlace(place);
  }
}

function titleOf(place: Place): string {
  switch (place.kind) {
    case 'host':
      return `Host offset ${exactly(place.hostOffset)}`;
    case 'guest':
      return `Guest offset ${exactly(place.guestOffset)}`;
    default:
      return describePlace(place);
  }
}

customElements.define('offset-link', OffsetLink);

interface LinkOptions {
  readonly text?: string;
  readonly tab?: EditorTab;
  readonly inGrid?: boolean;
  readonly quiet?: boolean;
}

export function placeLink(place: Place, { text, tab, inGrid = false, quiet = false }: LinkOptions = {}): TemplateResult {
  return html`<offset-link .place=${place} .text=${text ?? null} .tab=${tab ?? null} ?in-grid=${inGrid} ?quiet=${quiet}></offset-link>`;
}

/** A link to a byte of the file. */
export function hostLink(hostOffset: number, options: LinkOptions = {}): TemplateResult {
  return placeLink({ kind: 'host', hostOffset }, options);
}

/** A link to a byte of the virtual disk. */
export function guestLink(guestOffset: number, options: LinkOptions = {}): TemplateResult {
  return placeLink({ kind: 'guest', guestOffset }, options);
}
