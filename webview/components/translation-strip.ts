import { css, html, LitElement, nothing, type TemplateResult } from 'lit';
import type { LayerTranslation, Location } from '../../src/protocol/inspect';
import { send } from '../events';
import { counted, exactly, grouped } from '../format/numbers';
import { baseName, visible } from '../format/text';
import { lookOf } from '../map/classes';
import { worthShowing } from '../state/layers';
import './class-swatch';
import { icon } from './icons';
import { layerOffset } from './layer-offset';
import { guestLink, placeLink } from './offset-link';
import { base } from './styles';

/** What an address is in both spaces and in every layer of the chain. */
export class TranslationStrip extends LitElement {
  static override properties = { location: { attribute: false }, path: {} };

  declare location: Location;
  /** The image on the page. */
  declare path: string;

  static override styles = [
    base,
    css`
      :host {
        display: flex;
        align-items: flex-start;
        gap: 8px;
        padding: 3px 6px 5px 12px;
      }

      .all {
        display: flex;
        flex: 1;
        flex-wrap: wrap;
        align-items: center;
        gap: 3px 12px;
        min-width: 0;
        max-height: 84px;
        overflow: auto;
      }

      .understood {
        font-weight: 600;
      }

      .part {
        display: inline-flex;
        align-items: center;
        gap: 5px;
        min-width: 0;
      }

      .layer {
        padding: 1px 7px 2px;
        border: 1px solid var(--cs-line);
        border-radius: 3px;
        color: var(--vscode-descriptionForeground);
      }

      .layer.supplies {
        color: var(--vscode-foreground);
        border-color: var(--vscode-focusBorder);
      }

      .name {
        max-width: 22ch;
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
    `,
  ];

  protected override render(): TemplateResult {
    const { understood, space, offset, guestOffsets, layers, region } = this.location;
    const shown = worthShowing(layers);
    return html`<div class="all" role="status">
        <span class="understood" title=${exactly(offset)}>${visible(understood)}</span>
        ${
          space === 'host'
            ? html`<span class="part"
                >${
                  guestOffsets.length === 0
                    ? 'no guest offset maps here'
                    : html`guest
                      ${guestOffsets.map((guestOffset, at) => html`${at === 0 ? '' : ', '}<span class="mono">${guestLink(guestOffset)}</span>`)}`
                }</span
              >`
            : nothing
        }
        ${
          region === null
            ? nothing
            : html`<span class="part"
                ><class-swatch .classId=${region.class}></class-swatch>${
                  region.place === null ? visible(region.label) : placeLink(region.place, { text: visible(region.label) })
                }</span
              >`
        }
        ${shown.map((layer) => renderLayer(layer, this.path))}
        ${shown.length < layers.length ? html`<span class="muted">${counted(layers.length - shown.length, 'layer')} ${layers.length - shown.length === 1 ? 'holds' : 'hold'} nothing there</span>` : nothing}
        <button type="button" class="link" @click=${() => send(this, 'cs-inspect', { space, offset })}>Inspect cluster</button>
      </div>
      <button
        type="button"
        class="icon-button"
        aria-label="Close the translation"
        title="Close"
        @click=${() => this.dispatchEvent(new Event('close'))}
      >
        ${icon('close')}
      </button>`;
  }
}

function renderLayer(layer: LayerTranslation, imagePath: string): TemplateResult {
  const { depth, path, class: kind, supplies } = layer;
  const title = `${visible(path)}, layer ${grouped(depth)}${supplies ? ': the guest reads from here' : ''}`;
  return html`<span class="part layer ${supplies ? 'supplies' : ''}" title=${title}>
    <class-swatch .classId=${kind}></class-swatch><span class="name">${visible(baseName(path))}</span>
    <span>${lookOf(kind, 0).label.toLowerCase()}</span>
    ${layerOffset(layer, imagePath)} ${supplies ? html`<span class="hidden-text">(supplies)</span>` : nothing}
  </span>`;
}

customElements.define('translation-strip', TranslationStrip);
