import { css, html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import type { Overview } from '../../src/protocol/inspect';
import { openCopyMenu, type Copies } from '../components/copy-menu';
import { icon } from '../components/icons';
import { placeLink } from '../components/offset-link';
import { emptyState } from '../components/panel-states';
import { segmented, segmentedStyles } from '../components/segmented';
import { base } from '../components/styles';
import { send } from '../events';
import { hexDump, parseHexBytes, spacedHex, toHex } from '../format/bytes';
import { asJson, readCommand } from '../format/copies';
import { counted, exactly, hex, percent, size } from '../format/numbers';
import { parseOffset } from '../format/offsets';
import { visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { problemOf } from '../problem';
import { Loader } from '../state/loader';
import { fieldOf } from '../toolkit';
import type { HexGrid } from './hex-grid';
import './hex-grid';
import { numbersAt } from './numbers-at';
import { firstOf, lengthOf, movedTo, type HexSelection } from './selection';

/** Bytes that a link leads to. A new object is a new wish. */
export interface HexTarget {
  readonly hostOffset: number;
  readonly length: number;
}

/** Most that is copied at once. */
const COPY_LIMIT = 1024 * 1024;
/** Bytes asked for at a time while copying. */
const COPY_CHUNK = 64 * 1024;

type FindMode = 'hex' | 'text';

/** Any byte of the file, with the structure it belongs to; finding, selecting, copying. */
export class HexTab extends LitElement {
  static override properties = {
    source: { attribute: false },
    overview: { attribute: false },
    target: { attribute: false },
    start: { type: Number },
    generation: { type: Number },
    selection: { state: true },
    findMode: { state: true },
    message: { state: true },
  };

  declare source: ImageClient;
  declare overview: Overview;
  declare target: HexTarget | null;
  /** Where to begin when no link leads here. */
  declare start: number;
  declare generation: number;
  declare private selection: HexSelection;
  declare private findMode: FindMode;
  declare private message: string | null;

  private readonly search = new Loader<number | null>(this);

  static override styles = [
    base,
    segmentedStyles,
    css`
      :host {
        display: flex;
        flex-direction: column;
        height: 100%;
      }

      .toolbar {
        padding: 8px 12px;
      }

      .group {
        display: inline-flex;
        align-items: center;
        gap: 4px;
      }

      .offset {
        width: 16ch;
      }

      .find {
        width: 22ch;
      }

      hex-grid {
        flex: 1;
        border-block: 1px solid var(--cs-line);
      }

      .status {
        display: flex;
        flex-wrap: wrap;
        gap: 2px 20px;
        align-items: center;
        min-height: 26px;
        padding: 3px 12px;
        font-variant-numeric: tabular-nums;
      }

      .status dl {
        display: contents;
      }

      .status div {
        display: inline-flex;
        gap: 6px;
      }

      .status dt {
        color: var(--vscode-descriptionForeground);
      }

      .problem {
        color: var(--cs-error-text);
      }
    `,
  ];

  constructor() {
    super();
    this.target = null;
    this.start = 0;
    this.generation = 0;
    this.selection = { anchor: 0, cursor: 0 };
    this.findMode = 'hex';
    this.message = null;
    this.addEventListener('keydown', (event) => {
      if (event.key === 'f' && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey) {
        event.preventDefault();
        event.stopPropagation();
        this.renderRoot.querySelector<HTMLElement>('.find')?.focus();
      }
    });
  }

  private get fileSize(): number {
    return this.overview.fileSize;
  }

  private get grid(): HexGrid | null {
    return this.renderRoot.querySelector('hex-grid');
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('target') && this.target !== null) {
      const { hostOffset, length } = this.target;
      const from = movedTo(this.selection, hostOffset, false, this.fileSize);
      this.selection = length > 1 ? movedTo(from, hostOffset + length - 1, true, this.fileSize) : from;
      // The cursor stands where the link leads, at the beginning.
      this.selection = { anchor: this.selection.cursor, cursor: from.cursor };
      this.message =
        hostOffset >= this.fileSize ? `${hex(hostOffset)} lies past the end of the file, which is at ${hex(this.fileSize)}.` : null;
    } else if (!this.hasUpdated && this.start > 0) {
      this.selection = movedTo(this.selection, this.start, false, this.fileSize);
    }
  }

  protected override updated(changed: PropertyValues<this>): void {
    if ((changed.has('target') && this.target !== null) || changed.get('start') !== undefined) {
      this.grid?.showCursor();
    }
  }

  protected override firstUpdated(): void {
    this.grid?.showCursor();
  }

  private select(selection: HexSelection): void {
    this.selection = selection;
    this.message = null;
    send(this, 'cs-kept', { hexOffset: selection.cursor });
  }

  private goTo(text: string): void {
    const offset = parseOffset(text);
    if (offset === null) {
      this.message = 'Type an offset such as 65536, 0x10000 or 64K.';
    } else if (offset >= this.fileSize) {
      this.message = `${hex(offset)} lies past the end of the file, which is at ${hex(this.fileSize)}.`;
    } else {
      this.select({ anchor: offset, cursor: offset });
      this.grid?.showCursor();
    }
  }

  private async find(text: string): Promise<void> {
    const pattern = this.findMode === 'hex' ? parseHexBytes(text) : new TextEncoder().encode(text);
    if (pattern === null || pattern.length === 0) {
      this.message = this.findMode === 'hex' ? 'Type bytes as hexadecimal digits: 51 46 49 fb.' : 'Type the text to find.';
      return;
    }
    this.message = null;
    const from = this.selection.cursor + 1;
    await this.search.ask(async (options) => {
      const after = await this.source.call('findBytes', { pattern, from }, options);
      return after ?? (await this.source.call('findBytes', { pattern, from: 0 }, options));
    });
    const { value: found, problem, cancelled } = this.search;
    if (problem !== null) {
      this.message = problem.message;
    } else if (cancelled) {
      this.message = 'Search stopped.';
    } else if (found === null) {
      this.message = 'Not found in the whole file.';
    } else {
      this.select({ anchor: found + pattern.length - 1, cursor: found });
      this.message = found < from ? `Found at ${hex(found)}, beginning again from the start of the file.` : `Found at ${hex(found)}.`;
      this.grid?.showCursor();
    }
  }

  /** The selected bytes; those that were never on the screen are fetched. */
  private async selectedBytes(): Promise<Uint8Array | null> {
    const length = lengthOf(this.selection);
    if (length > COPY_LIMIT) {
      this.message = `At most ${size(COPY_LIMIT)} are copied at once; ${size(length)} are selected.`;
      return null;
    }
    const bytes = new Uint8Array(length);
    const first = firstOf(this.selection);
    for (let at = 0; at < length; at += COPY_CHUNK) {
      const chunk = await this.source.call('hex', { hostOffset: first + at, length: Math.min(COPY_CHUNK, length - at) });
      bytes.set(chunk.bytes.subarray(0, length - at), at);
    }
    return bytes;
  }

  private async withBytes(use: (bytes: Uint8Array) => void): Promise<void> {
    try {
      const bytes = await this.selectedBytes();
      if (bytes !== null) {
        use(bytes);
      }
    } catch (error) {
      this.message = problemOf(error).message;
    }
  }

  private copiesOf(bytes: Uint8Array): Copies {
    const first = firstOf(this.selection);
    return {
      what: counted(bytes.length, 'byte'),
      text: () => `${hexDump(bytes, first)}\n`,
      hex: () => spacedHex(toHex(bytes)),
      json: () => asJson({ hostOffset: first, length: bytes.length, hex: toHex(bytes) }),
      commands: [readCommand(this.overview.path, first, bytes.length)],
    };
  }

  private copyBytes(): void {
    void this.withBytes((bytes) => {
      const { what, hex: asHex } = this.copiesOf(bytes);
      send(this, 'cs-copy', { text: asHex?.() ?? '', what });
    });
  }

  private openMenu(event: MouseEvent): void {
    event.preventDefault();
    const button = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const byKey = event.type === 'click' || (event.clientX === 0 && event.clientY === 0);
    const [x, y] = byKey ? [button.left, button.bottom] : [event.clientX, event.clientY];
    void this.withBytes((bytes) => openCopyMenu(this, this.copiesOf(bytes), x, y));
  }

  private inspect(): void {
    send(this, 'cs-inspect', { space: 'host', offset: this.selection.cursor });
  }

  protected override render(): TemplateResult {
    if (this.fileSize === 0) {
      return emptyState('file', 'The file is empty.');
    }
    return html`<div class="toolbar" role="toolbar" aria-label="Hex">
        <vscode-text-field
          class="offset"
          aria-label="Go to host offset"
          placeholder="Go to offset"
          @keydown=${(event: KeyboardEvent) => {
            if (event.key === 'Enter') {
              this.goTo(fieldOf(event).value);
            }
          }}
        ></vscode-text-field>
        <span class="group">
          ${segmented<FindMode>(
            'What to find',
            [
              { value: 'hex', label: 'Hex', title: 'Find bytes given as hexadecimal digits' },
              { value: 'text', label: 'Text', title: 'Find UTF-8 text' },
            ],
            this.findMode,
            (mode) => (this.findMode = mode),
          )}
          <vscode-text-field
            class="find"
            aria-label=${this.findMode === 'hex' ? 'Find bytes as hexadecimal' : 'Find text'}
            placeholder=${this.findMode === 'hex' ? 'Find 51 46 49 fb' : 'Find text'}
            @keydown=${(event: KeyboardEvent) => {
              if (event.key === 'Enter') {
                void this.find(fieldOf(event).value);
              }
            }}
          ></vscode-text-field>
        </span>
        <span role="status">
          ${
            this.search.loading
              ? html`<span class="muted"
                    >Searching…${this.search.progress === null ? '' : ` ${percent(this.search.progress.done, this.search.progress.total)}`}</span
                  >
                  <button type="button" class="link" @click=${() => this.search.cancel()}>Stop</button>`
              : (this.message ?? nothing)
          }
        </span>
      </div>
      <hex-grid
        .source=${this.source}
        .fileSize=${this.fileSize}
        .generation=${this.generation}
        .selection=${this.selection}
        @select-bytes=${(event: CustomEvent<HexSelection>) => this.select(event.detail)}
        @inspect-byte=${() => this.inspect()}
        @copy-bytes=${() => this.copyBytes()}
        @bytes=${() => this.requestUpdate()}
        @contextmenu=${(event: MouseEvent) => this.openMenu(event)}
      ></hex-grid>
      ${this.renderStatus()}`;
  }

  private renderStatus(): TemplateResult {
    const first = firstOf(this.selection);
    const length = lengthOf(this.selection);
    const region = this.grid?.regionAt(this.selection.cursor) ?? null;
    return html`<div class="status">
      <span title=${exactly(this.selection.cursor)}
        ><span class="mono">${hex(first)}</span>${length > 1 ? `, ${counted(length, 'byte')} selected` : ''}</span
      >
      ${
        region === null
          ? nothing
          : html`<span>${region.place === null ? visible(region.label) : placeLink(region.place, { text: visible(region.label) })}</span>`
      }
      <button type="button" class="link" @click=${() => this.inspect()}>Inspect cluster</button>
      <button
        type="button"
        class="icon-button"
        aria-haspopup="menu"
        aria-label="Copy selected bytes"
        title="Copy as…"
        @click=${(event: MouseEvent) => this.openMenu(event)}
      >
        ${icon('copy')}
      </button>
      <dl>
        ${numbersAt(this.grid?.bytesHere(first, 8) ?? new Uint8Array()).map(
          ({ name, value }) =>
            html`<div>
              <dt>${name}</dt>
              <dd class="mono">${value}</dd>
            </div>`,
        )}
      </dl>
    </div>`;
  }
}

customElements.define('hex-tab', HexTab);
