import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { Notice } from '../src/protocol/inspect';
import './components/notice-banner';
import { placeLink } from './components/offset-link';
import { base } from './components/styles';
import { COMMANDS } from './commands';
import { send } from './events';
import { counted } from './format/numbers';
import { visible } from './format/text';
import type { Problem } from './problem';
import { describePlace } from './state/places';

/** Banners shown before one asks for the rest. */
const NOTICES_SHOWN = 3;

/** What is to be said of the image before one looks into it, and what the last thing that one asked for ended with. */
export class NoticeList extends LitElement {
  static override properties = {
    failure: { attribute: false },
    notices: { attribute: false },
    dismissed: { state: true },
    all: { state: true },
  };

  /** Goes with the event `forgive`. */
  declare failure: Problem | null;
  declare notices: readonly Notice[];
  /** Messages that the person has read. */
  declare private dismissed: ReadonlySet<string>;
  declare private all: boolean;

  static override styles = [
    base,
    css`
      :host {
        display: grid;
        gap: 4px;
        max-height: 30vh;
        overflow: auto;
        padding: 2px 10px 6px;
      }

      .action {
        margin-inline-start: 1em;
      }
    `,
  ];

  constructor() {
    super();
    this.failure = null;
    this.notices = [];
    this.dismissed = new Set();
    this.all = false;
  }

  protected override render(): TemplateResult {
    const notices = this.notices.filter(({ message }) => !this.dismissed.has(message));
    const shown = this.all ? notices : notices.slice(0, NOTICES_SHOWN);
    return html`${this.failure === null ? nothing : failureBanner(this.failure, () => this.dispatchEvent(new Event('forgive')))}${shown.map(
      (notice) => noticeBanner(notice, () => (this.dismissed = new Set([...this.dismissed, notice.message]))),
    )}${
      shown.length < notices.length
        ? html`<button type="button" class="link" @click=${() => (this.all = true)}>
            Show ${counted(notices.length - shown.length, 'more notice')}
          </button>`
        : nothing
    }`;
  }
}

function failureBanner({ message, remedy }: Problem, dismiss: () => void): TemplateResult {
  return noticeBanner({ severity: 'error', message: remedy === null ? message : `${message} ${remedy}`, place: null }, dismiss);
}

const ACTIONS = { unlock: 'Unlock…', forgetPassphrases: 'Forget Passphrases' } as const;

function noticeBanner({ severity, message, place, action }: Notice, dismiss: () => void): TemplateResult {
  return html`<notice-banner
    .severity=${severity}
    severity=${severity}
    closable
    role=${severity === 'error' ? 'alert' : 'status'}
    @dismiss=${dismiss}
    >${visible(message)}${place === null ? nothing : html` ${placeLink(place, { text: describePlace(place) })}`}${
      action === undefined
        ? nothing
        : html` <button type="button" class="link action" @click=${(event: Event) => runAction(event, action)}>${ACTIONS[action]}</button>`
    }</notice-banner
  >`;
}

function runAction({ currentTarget }: Event, action: NonNullable<Notice['action']>): void {
  if (currentTarget !== null) {
    send(currentTarget, 'cs-command', COMMANDS[action]);
  }
}

customElements.define('notice-list', NoticeList);
