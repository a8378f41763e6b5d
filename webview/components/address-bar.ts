import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { Location } from '../../src/protocol/inspect';
import { send } from '../events';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { Loader } from '../state/loader';
import { fieldOf, type TextFieldElement } from '../toolkit';
import { icon } from './icons';
import { segmented, segmentedStyles } from './segmented';
import { base } from './styles';

/** Back, forward, and a field that takes any address and goes there. */
export class AddressBar extends LitElement {
  static override properties = {
    source: { attribute: false },
    space: {},
    canGoBack: { type: Boolean },
    canGoForward: { type: Boolean },
  };

  declare source: ImageClient;
  /** What a plain number means. */
  declare space: 'guest' | 'host';
  declare canGoBack: boolean;
  declare canGoForward: boolean;

  private readonly answer = new Loader<Location>(this);

  static override styles = [
    base,
    segmentedStyles,
    css`
      :host {
        display: block;
        padding: 6px 10px 4px;
      }

      .line {
        display: flex;
        align-items: center;
        gap: 6px;
      }

      .ways {
        display: inline-flex;
      }

      vscode-text-field {
        flex: 1;
        min-width: 0;
        max-width: 520px;
      }

      .problem {
        display: flex;
        gap: 4px;
        padding: 3px 0 2px;
        color: var(--cs-error-text);
        overflow-wrap: anywhere;
      }
    `,
  ];

  constructor() {
    super();
    this.space = 'guest';
    this.canGoBack = false;
    this.canGoForward = false;
  }

  override focus(): void {
    const field = this.field;
    field?.focus();
    field?.select();
  }

  private get field(): TextFieldElement | null {
    return this.renderRoot.querySelector<TextFieldElement>('vscode-text-field');
  }

  private async locate(text: string): Promise<void> {
    const address = text.trim();
    if (address === '') {
      this.answer.reset();
      return;
    }
    const { space } = this;
    await this.answer.ask((options) => this.source.call('locate', { address, space }, options));
    if (this.answer.problem === null && !this.answer.cancelled && this.answer.value !== null) {
      this.dispatchEvent(new CustomEvent<Location>('located', { detail: this.answer.value }));
    }
  }

  protected override render(): TemplateResult {
    const { problem } = this.answer;
    return html`<div class="line" role="search" aria-label="Address">
        <span class="ways">
          ${this.wayButton('back', 'Back (Alt+Left)', this.canGoBack)}${this.wayButton('forward', 'Forward (Alt+Right)', this.canGoForward)}
        </span>
        ${segmented(
          'A plain number is',
          [
            { value: 'guest', label: 'Guest', title: 'A plain number is an offset on the virtual disk' },
            { value: 'host', label: 'Host', title: 'A plain number is an offset in the file' },
          ],
          this.space,
          (space) => send(this, 'cs-kept', { space }),
        )}
        <vscode-text-field
          aria-label=${`Go to ${this.space} offset or cluster`}
          placeholder="4G, 0x1f0000, c:1024, h:64K"
          title="An offset, decimal, hexadecimal or with a unit; c: a cluster number; g: guest and h: host whatever the switch says"
          aria-invalid=${problem === null ? 'false' : 'true'}
          @keydown=${(event: KeyboardEvent) => {
            if (event.key === 'Enter') {
              void this.locate(fieldOf(event).value);
            } else if (event.key === 'Escape') {
              this.answer.reset();
            }
          }}
        ></vscode-text-field>
        <button
          type="button"
          class="icon-button"
          aria-label="Go"
          title="Go (Enter)"
          @click=${() => void this.locate(this.field?.value ?? '')}
        >
          ${icon('forward')}
        </button>
      </div>
      <div role="alert">
        ${
          problem === null
            ? nothing
            : html`<div class="problem">
                ${icon('error')}<span>${visible(problem.message)}${problem.remedy === null ? '' : ` ${visible(problem.remedy)}`}</span>
              </div>`
        }
      </div>`;
  }

  private wayButton(way: 'back' | 'forward', label: string, enabled: boolean): TemplateResult {
    return html`<button
      type="button"
      class="icon-button"
      aria-label=${way === 'back' ? 'Back' : 'Forward'}
      title=${label}
      ?disabled=${!enabled}
      @click=${() => this.dispatchEvent(new Event(way))}
    >
      ${icon(way)}
    </button>`;
  }
}

customElements.define('address-bar', AddressBar);
