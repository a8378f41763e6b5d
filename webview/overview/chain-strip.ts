import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { Chain, ChainLink, ImageSummary, RefusalReason } from '../../src/protocol/chain';
import { COMMANDS } from '../commands';
import { icon } from '../components/icons';
import { base } from '../components/styles';
import { send } from '../events';
import { counted, exactly, size } from '../format/numbers';
import { baseName, visible } from '../format/text';

const REFUSALS: Readonly<Record<RefusalReason, string>> = {
  untrustedWorkspace: 'Not opened: the workspace is not trusted.',
  outsideWorkspace: 'Not opened: it lies outside the workspace.',
  network: 'Not opened: it lies on the network.',
  protocol: 'Not opened: its name uses a protocol that this version does not read.',
  notFollowed: 'Not opened.',
};

const ROLES: Readonly<Record<ChainLink['role'], string>> = {
  active: 'this image',
  backing: 'backing file',
  'data-file': 'data file',
  extent: 'extent',
};

/** Links shown of a chain that is too deep to show whole: so many from the active layer on, and so many at the base. */
const SHOWN = 8;
const SHOWN_AT_BASE = 2;

/** The chain from the active layer down to its base; each link opens its file. */
export class ChainStrip extends LitElement {
  static override properties = { chain: { attribute: false }, whole: { state: true } };

  declare chain: Chain;
  declare private whole: boolean;

  static override styles = [
    base,
    css`
      ol {
        display: flex;
        flex-wrap: wrap;
        gap: 6px 0;
      }

      li {
        display: flex;
        align-items: stretch;
        min-width: 0;
        max-width: 100%;
      }

      .arrow {
        display: flex;
        align-items: center;
        padding: 0 4px;
        color: var(--vscode-descriptionForeground);
      }

      .link-card {
        display: block;
        min-width: 130px;
        max-width: 280px;
        padding: 5px 10px 6px;
        border: 1px solid var(--cs-line);
        border-radius: 4px;
        text-align: start;
      }

      .active .link-card {
        border-color: var(--vscode-focusBorder);
      }

      button.link-card:hover {
        background: var(--vscode-list-hoverBackground);
      }

      .broken .link-card {
        border-style: dashed;
      }

      .name {
        display: block;
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
        font-weight: 600;
      }

      button.link-card .name {
        color: var(--vscode-textLink-foreground);
      }

      .line {
        display: block;
        color: var(--vscode-descriptionForeground);
        overflow: hidden;
        text-overflow: ellipsis;
      }

      .flags {
        display: flex;
        align-items: center;
        gap: 4px;
        margin-top: 2px;
      }

      .flags .icon {
        width: 14px;
        height: 14px;
      }

      .more {
        padding: 0 8px;
      }

      .action {
        margin-top: 4px;
      }
    `,
  ];

  constructor() {
    super();
    this.whole = false;
  }

  protected override render(): TemplateResult {
    const { links } = this.chain;
    // Of a very deep chain, its two ends.
    const hidden = this.whole || links.length <= SHOWN + SHOWN_AT_BASE + 1 ? 0 : links.length - SHOWN - SHOWN_AT_BASE;
    return html`<ol aria-label="Chain, from this image to its base">
      ${links.map((link, at) => {
        if (at === SHOWN && hidden > 0) {
          return html`<li>
            <span class="arrow">${icon('right')}</span>
            <button type="button" class="link more" @click=${() => (this.whole = true)}>${counted(hidden, 'more layer')}</button>
          </li>`;
        }
        return at > SHOWN && at < SHOWN + hidden ? nothing : this.renderLink(link, at);
      })}
    </ol>`;
  }

  private renderLink(link: ChainLink, at: number): TemplateResult {
    const open = link.state.kind === 'open';
    const classes = `${link.role === 'active' ? 'active' : ''} ${open ? '' : 'broken'}`;
    const { path } = link;
    const card = html`<span class="name">${visible(baseName(path ?? link.recordedName))}</span>
      <span class="line">${ROLES[link.role]}${link.image === null ? '' : ` · ${link.image.format}`}</span>
      ${
        link.image === null
          ? nothing
          : html`<span class="line"
              ><span title=${`Virtual size ${exactly(link.image.virtualSize)}`}>${size(link.image.virtualSize)}</span>,
              <span title=${`On disk ${exactly(link.image.allocatedBytes)}`}>${size(link.image.allocatedBytes)} on disk</span></span
            >`
      }
      ${flagsOf(link).map(
        ({ text, severity, locked = false }) =>
          html`<span class="flags severity-${severity}">${icon(locked ? 'lock' : severity)}<span>${text}</span></span>`,
      )}`;
    return html`<li class=${classes}>
      ${at === 0 ? nothing : html`<span class="arrow" title=${ROLES[link.role]}>${icon('right')}</span>`}
      ${
        open && path !== null && link.role !== 'active'
          ? html`<button
              type="button"
              class="link-card"
              title=${`Open ${visible(path)}`}
              @click=${() => send(this, 'cs-go', { place: { kind: 'file', path } })}
            >
              ${card}
            </button>`
          : html`<div class="link-card" title=${visible(path ?? link.recordedName)}>${card}${this.renderAction(link)}</div>`
      }
    </li>`;
  }

  private renderAction(link: ChainLink): TemplateResult | typeof nothing {
    const state = link.state;
    if (state.kind === 'missing') {
      return this.actionButton('Locate…', COMMANDS.locateMissing);
    }
    if (state.kind === 'refused' && (state.reason === 'outsideWorkspace' || state.reason === 'network')) {
      return this.actionButton('Allow…', COMMANDS.grantAccess);
    }
    return nothing;
  }

  private actionButton(label: string, command: string): TemplateResult {
    return html`<vscode-button class="action" appearance="secondary" @click=${() => send(this, 'cs-command', command)}
      >${label}</vscode-button
    >`;
  }
}

interface Flag {
  readonly text: string;
  readonly severity: 'error' | 'warning' | 'info';
  /** Shown with a lock: something about the image cannot be had. */
  readonly locked?: boolean;
}

function flagsOf(link: ChainLink): readonly Flag[] {
  switch (link.state.kind) {
    case 'missing':
      return [{ text: 'Missing', severity: 'error' }];
    case 'refused':
      return [{ text: REFUSALS[link.state.reason], severity: 'warning' }];
    case 'loop':
      return [{ text: 'The chain loops back to this file.', severity: 'error' }];
    case 'unreadable':
      return [{ text: visible(link.state.message), severity: 'error' }];
    case 'open':
      return link.image === null ? [] : imageFlags(link.image);
  }
}

function imageFlags(image: ImageSummary): readonly Flag[] {
  const flags: Flag[] = [];
  if (image.corrupt) {
    flags.push({ text: 'Marked corrupt', severity: 'error' });
  }
  if (image.usage.own === 'writing') {
    flags.push({ text: 'Written by this window', severity: 'info' });
  } else if (image.dirty) {
    flags.push({ text: 'Marked dirty', severity: 'warning' });
  }
  if (image.backingName !== null && image.backingFormat === null) {
    flags.push({ text: 'Backing format not recorded', severity: 'warning' });
  }
  if (image.usage.inUse) {
    flags.push({ text: image.usage.writing ? 'In use, being written' : 'In use', severity: 'info' });
  }
  if (image.encrypted) {
    flags.push({ text: 'Encrypted', severity: 'info', locked: true });
  }
  if (image.readOnly) {
    flags.push({ text: 'Read-only file', severity: 'info', locked: true });
  }
  return flags;
}

customElements.define('chain-strip', ChainStrip);
