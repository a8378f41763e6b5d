import { html, nothing, type TemplateResult } from 'lit';
import type { LayerTranslation } from '../../src/protocol/inspect';
import type { Place } from '../../src/protocol/place';
import { send } from '../events';
import { exactly, hex } from '../format/numbers';
import { baseName, visible } from '../format/text';
import { describePlace } from '../state/places';
import { hostLink, placeLink } from './offset-link';

/* Links to offsets that may lie in another file of the chain than the one on the page. */

/** A host offset of some file: a link into this image, or into an editor of that file. */
export function fileOffset(path: string, hostOffset: number, imagePath: string): TemplateResult {
  return html`<span class="mono"
    >${path === imagePath ? hostLink(hostOffset) : openButton(path, { kind: 'host', hostOffset }, hex(hostOffset), `Host offset ${exactly(hostOffset)}`)}</span
  >`;
}

/** A place in some file. */
export function filePlace(path: string, place: Place, text: string, imagePath: string): TemplateResult {
  return path === imagePath ? placeLink(place, { text }) : openButton(path, place, text, describePlace(place));
}

/** Where a layer of the chain holds something; nothing when it holds nothing. */
export function layerOffset({ path, hostOffset }: LayerTranslation, imagePath: string): TemplateResult | typeof nothing {
  return hostOffset === null ? nothing : fileOffset(path, hostOffset, imagePath);
}

function openButton(path: string, place: Place, text: string, what: string): TemplateResult {
  return html`<button
    type="button"
    role="link"
    class="link"
    title=${`${what} of ${visible(baseName(path))}; opens that file`}
    @click=${(event: Event) => {
      if (event.currentTarget !== null) {
        send(event.currentTarget, 'cs-open', { path, place });
      }
    }}
  >
    ${text}
  </button>`;
}
