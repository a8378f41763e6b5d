import { html, nothing, type TemplateResult } from 'lit';
import type { LayerTranslation } from '../../src/protocol/inspect';
import { send } from '../events';
import { exactly, hex } from '../format/numbers';
import { baseName, visible } from '../format/text';
import { hostLink } from './offset-link';

/** Where a layer holds something: a link into this image, or for a layer below, into an editor of its own. */
export function layerOffset({ depth, path, hostOffset }: LayerTranslation): TemplateResult | typeof nothing {
  if (hostOffset === null) {
    return nothing;
  }
  if (depth === 0) {
    return html`<span class="mono">${hostLink(hostOffset)}</span>`;
  }
  return html`<button
    type="button"
    role="link"
    class="link mono"
    title=${`Host offset ${exactly(hostOffset)} of ${visible(baseName(path))}; opens that file`}
    @click=${(event: Event) => send(event.currentTarget as EventTarget, 'cs-open', { path, place: { kind: 'host', hostOffset } })}
  >
    ${hex(hostOffset)}
  </button>`;
}
