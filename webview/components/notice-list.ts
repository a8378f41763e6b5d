import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { Notice } from '../../src/protocol/inspect';
import { counted } from '../format/numbers';
import { visible } from '../format/text';
import { describePlace } from '../state/places';
import './notice-banner';
import { placeLink } from './offset-link';
import { base } from './styles';

/** Banners shown before one asks for the rest. */
const SHOWN = 3;

/** What there is to say about the image as a whole; each sentence can be put away. */
export class NoticeList extends LitElement {
  static override properties = { notices: { attribute: false }, dismissed: { state: true }, all: { state: true } };

  declare notices: readonly Notice[];
  declare private dismissed: ReadonlySet<string>;
  declare private all: boolean;

  static override styles = [
    base,
    css`
      :host {
        display: block;
      }

      div {
        display: grid;
        gap: 4px;
        max-height: 30vh;
        overflow: auto;
        padding: 2px 10px 6px;
      }
    `,
  ];

  constructor() {
    super();
    this.notices = [];
    this.dismissed = new Set();
    this.all = false;
  }

  private dismiss(notice: Notice): void {
    this.dismissed = new Set([...this.dismissed, notice.message]);
    this.dispatchEvent(new CustomEvent<Notice>('dismissed', { detail: notice }));
  }

  protected override render(): TemplateResult | typeof nothing {
    const notices = this.notices.filter(({ message }) => !this.dismissed.has(message));
    if (notices.length === 0) {
      return nothing;
    }
    const shown = this.all ? notices : notices.slice(0, SHOWN);
    return html`<div>
      ${shown.map((notice) => this.renderNotice(notice))}
      ${
        shown.length < notices.length
          ? html`<button type="button" class="link" @click=${() => (this.all = true)}>
              Show ${counted(notices.length - shown.length, 'more notice')}
            </button>`
          : nothing
      }
    </div>`;
  }

  private renderNotice(notice: Notice): TemplateResult {
    const { severity, message, place } = notice;
    return html`<notice-banner
      .severity=${severity}
      severity=${severity}
      closable
      role=${severity === 'error' ? 'alert' : 'status'}
      @dismiss=${() => this.dismiss(notice)}
      >${visible(message)}${place === null ? nothing : html` ${placeLink(place, { text: describePlace(place) })}`}</notice-banner
    >`;
  }
}

customElements.define('notice-list', NoticeList);
