import { html, LitElement, nothing, type TemplateResult } from 'lit';
import { classMap } from 'lit/directives/class-map.js';
import type { FieldView, StructureView } from '../../src/protocol/inspect';
import { asJson, readCommand, structureAsHex, structureAsText } from '../format/copies';
import { counted, exactly, hex, size } from '../format/numbers';
import { spacedHex } from '../format/bytes';
import { visible } from '../format/text';
import { copyButton } from './copy-menu';
import { icon } from './icons';
import { hostLink, placeLink } from './offset-link';
import { base, dataTable } from './styles';
import { structureStyles } from './structure-panel.styles';

/** Raw bytes shown of a field before they are cut, in hexadecimal digits. */
const RAW_DIGITS = 32;

/** One on-disk structure: a head that folds, and its declared fields with bytes, value and meaning. */
export class StructurePanel extends LitElement {
  static override properties = {
    structure: { attribute: false },
    path: {},
    expanded: { type: Boolean },
    changed: { attribute: false },
  };

  declare structure: StructureView;
  /** The file it stands in, for the commands that one can copy. */
  declare path: string;
  declare expanded: boolean;
  /** What differs since the image was last read: `structure id` when it is new, or `structure id.field`. */
  declare changed: ReadonlySet<string>;

  static override styles = [base, dataTable, structureStyles];

  constructor() {
    super();
    this.path = '';
    this.expanded = false;
    this.changed = new Set();
  }

  protected override render(): TemplateResult {
    const { structure } = this;
    const wrong = structure.fields.filter(({ problem }) => problem !== null).length + structure.problems.length;
    return html`<div class="head">
        <button
          type="button"
          class="fold"
          aria-expanded=${String(this.expanded)}
          aria-controls="body"
          @click=${() => this.dispatchEvent(new CustomEvent('fold', { detail: !this.expanded }))}
        >
          ${icon('right')}<span>${visible(structure.title)}</span>
        </button>
        <span class="where"
          ><span class="mono">${hostLink(structure.hostOffset)}</span
          ><span title=${exactly(structure.length)}>, ${size(structure.length)}</span></span
        >
        ${wrong === 0 ? nothing : html`<span class="count severity-error">${icon('error')}${counted(wrong, 'problem')}</span>`}
        <span class="grow"></span>
        ${copyButton({
          what: structure.title,
          text: () => structureAsText(structure),
          hex: () => structureAsHex(structure),
          json: () => asJson(structure),
          commands: [readCommand(this.path, structure.hostOffset, structure.length)],
        })}
      </div>
      <div id="body" class="body" ?hidden=${!this.expanded}>${this.expanded ? this.renderBody() : nothing}</div>`;
  }

  private renderBody(): TemplateResult {
    const { structure } = this;
    return html`${
        structure.problems.length === 0
          ? nothing
          : html`<ul class="notices">
              ${structure.problems.map(
                ({ severity, message, place }) =>
                  html`<li class="wrong severity-${severity}">
                    ${icon(severity)}<span>${visible(message)} ${place === null ? nothing : placeLink(place)}</span>
                  </li>`,
              )}
            </ul>`
      }
      <table aria-label=${structure.title}>
        <thead>
          <tr>
            <th scope="col">Field</th>
            <th scope="col">Offset</th>
            <th scope="col" class="raw">Bytes</th>
            <th scope="col">Value</th>
            <th scope="col" class="meaning">Meaning</th>
          </tr>
        </thead>
        <tbody>
          ${structure.fields.map((field) => this.renderField(field))}
        </tbody>
      </table>`;
  }

  private renderField(field: FieldView): TemplateResult {
    const problem = field.problem;
    const relative = field.hostOffset - this.structure.hostOffset;
    const changed = this.changed.has(this.structure.id) || this.changed.has(`${this.structure.id}.${field.name}`);
    return html`<tr class=${classMap({ problem: problem !== null, changed })}>
      <td class="name" title=${field.meaning}>${visible(field.name)}</td>
      <td class="offset" title=${`Byte ${relative} of the ${this.structure.title}, ${counted(field.length, 'byte')} long`}>
        ${placeLink({ kind: 'host', hostOffset: field.hostOffset, length: field.length }, { text: hex(field.hostOffset) })}
      </td>
      <td class=${field.length <= 8 ? 'raw short' : 'raw'} title=${spacedHex(field.rawHex)}>${spacedHex(shortened(field.rawHex))}</td>
      <td class="value">
        ${field.place === null ? visible(field.value) : placeLink(field.place, { text: visible(field.value) })}
        ${field.bits.length === 0 ? nothing : renderBits(field)}
        ${problem === null ? nothing : html`<div class="wrong">${icon('error')}<span>${visible(problem)}</span></div>`}
      </td>
      <td class="meaning">${field.meaning}</td>
    </tr>`;
  }
}

function shortened(rawHex: string): string {
  return rawHex.length <= RAW_DIGITS + 2 ? rawHex : `${rawHex.slice(0, RAW_DIGITS)}…`;
}

/** Set bits first, one a line with its meaning; then, quietly, the names of those that are not. */
function renderBits(field: FieldView): TemplateResult {
  const set = field.bits.filter((bit) => bit.set);
  const clear = field.bits.filter((bit) => !bit.set);
  return html`<ul class="bits">
    ${set.map(
      ({ bit, name, known, meaning }) =>
        html`<li class=${known ? 'on' : 'unknown'} title=${meaning}>
          ${icon(known ? 'checked' : 'warning')}<span>bit ${bit}: ${visible(name)}${known ? '' : ' (unknown)'}</span>
        </li>`,
    )}
    ${
      clear.length === 0
        ? nothing
        : html`<li class="off">
            ${icon('unchecked')}<span
              >not set:
              ${clear.map(({ name, meaning }, at) => html`${at === 0 ? '' : ', '}<span title=${meaning}>${visible(name)}</span>`)}</span
            >
          </li>`
    }
  </ul>`;
}

customElements.define('structure-panel', StructurePanel);
