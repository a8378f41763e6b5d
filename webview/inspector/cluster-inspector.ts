import { html, LitElement, nothing, type PropertyValues, type TemplateResult } from 'lit';
import type { ClusterInspection, LayerTranslation } from '../../src/protocol/inspect';
import type { LayerView } from '../../src/protocol/place';
import '../components/class-swatch';
import { copyButton } from '../components/copy-menu';
import { icon } from '../components/icons';
import { fileOffset, filePlace, layerOffset } from '../components/layer-offset';
import { guestLink, placeLink } from '../components/offset-link';
import { insteadOf } from '../components/panel-states';
import { base } from '../components/styles';
import '../components/subcluster-strip';
import { COMMANDS } from '../commands';
import { send } from '../events';
import { spacedHex } from '../format/bytes';
import { asJson, clusterAsHex, clusterAsText } from '../format/copies';
import { counted, exactly, grouped, hex, size } from '../format/numbers';
import { baseName, visible } from '../format/text';
import type { ImageClient } from '../../src/protocol/imageClient';
import { lookOf } from '../map/classes';
import { worthShowing } from '../state/layers';
import { Loader } from '../state/loader';
import './cluster-bytes';
import { inspectorStyles } from './cluster-inspector.styles';

/** The cluster to show. A new object is a new wish. */
export interface Inspected {
  readonly space: 'guest' | 'host';
  readonly offset: number;
}

/** Everything about one cluster: where it is in both spaces, who supplies it, the entries on the way, its references and its bytes. */
export class ClusterInspector extends LitElement {
  static override properties = {
    source: { attribute: false },
    inspected: { attribute: false },
    path: {},
    view: { attribute: false },
    generation: { type: Number },
    allLayers: { state: true },
  };

  declare source: ImageClient;
  declare inspected: Inspected;
  /** The image on the page; what the inspector shows may lie in other files of its chain. */
  declare path: string;
  declare view: LayerView;
  declare generation: number;
  declare private allLayers: boolean;

  private readonly cluster = new Loader<ClusterInspection>(this);

  static override styles = [base, inspectorStyles];

  constructor() {
    super();
    this.path = '';
    this.generation = 0;
    this.allLayers = false;
  }

  protected override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has('inspected') || changed.has('view') || changed.has('source') || changed.has('generation')) {
      const { space, offset } = this.inspected;
      const view = this.view;
      void this.cluster
        .ask((options) => this.source.call('inspectCluster', { space, offset, view }, options))
        .then(() => {
          if (changed.has('inspected') && this.cluster.value !== null && this.cluster.problem === null) {
            send(this, 'cs-announce', `${visible(this.cluster.value.title)}, ${this.cluster.value.class}`);
          }
        });
    }
  }

  protected override render(): TemplateResult {
    const cluster = this.cluster.value;
    const instead = cluster === null || this.cluster.problem !== null;
    return html`<header>
        <h2 title=${cluster === null ? nothing : visible(cluster.title)}>${cluster === null ? 'Cluster' : visible(cluster.title)}</h2>
        ${
          cluster === null || instead
            ? nothing
            : copyButton({
                what: 'cluster',
                text: () => clusterAsText(cluster),
                hex: cluster.bytes === null ? null : () => clusterAsHex(cluster),
                json: () => asJson(cluster),
                commands: cluster.commands,
              })
        }
        <button
          type="button"
          class="icon-button"
          aria-label="Close the inspector"
          title="Close"
          @click=${() => this.dispatchEvent(new Event('close'))}
        >
          ${icon('close')}
        </button>
      </header>
      <div class="body" tabindex="0" role="region" aria-label="Cluster inspector" aria-busy=${String(this.cluster.loading)}>
        ${instead ? insteadOf(this.cluster, 'Inspecting') : this.renderCluster(cluster)}
      </div>`;
  }

  private renderCluster(cluster: ClusterInspection): TemplateResult {
    const { guest, host, layers, path, references, refcount, subclusters, bytes, bytesNote, locked, commands } = cluster;
    const shown = this.allLayers ? layers : worthShowing(layers);
    return html`<div class="class">
        <class-swatch .classId=${cluster.class}></class-swatch><strong>${lookOf(cluster.class, 0).label}</strong>
      </div>
      <dl class="facts">
        ${
          guest === null
            ? nothing
            : html`<dt>Guest</dt>
                <dd title=${exactly(guest.guestOffset)}>
                  <span class="mono">${guestLink(guest.guestOffset)}</span> –
                  <span class="mono">${hex(guest.guestOffset + guest.length - 1)}</span>, ${size(guest.length)}
                </dd>`
        }
        ${
          host === null
            ? nothing
            : html`<dt>Host</dt>
                <dd title=${`${exactly(host.hostOffset)} of ${visible(host.path)}`}>
                  ${fileOffset(host.path, host.hostOffset, this.path)} –
                  <span class="mono">${hex(host.hostOffset + host.length - 1)}</span>, ${size(host.length)}<br /><span class="muted"
                    >in ${visible(baseName(host.path))}</span
                  >
                </dd>`
        }
        ${this.renderRefcount(refcount, references)}
        ${
          subclusters === null
            ? nothing
            : html`<dt>Subclusters</dt>
                <dd><subcluster-strip .allocated=${subclusters.allocated} .zero=${subclusters.zero}></subcluster-strip></dd>`
        }
      </dl>
      <div class="actions">
        ${
          guest === null
            ? nothing
            : html`${this.showButton('Guest map', () => send(this, 'cs-go', { place: { kind: 'guest', guestOffset: guest.guestOffset }, tab: 'map' }))}
              ${this.showButton('L2 entry', () => send(this, 'cs-go', { place: { kind: 'guest', guestOffset: guest.guestOffset }, tab: 'tables' }))}`
        }
        ${
          host?.path !== this.path
            ? nothing
            : html`${this.showButton('Host map', () => send(this, 'cs-go', { place: { kind: 'host', hostOffset: host.hostOffset }, tab: 'map' }))}
              ${this.showButton('Hex', () => send(this, 'cs-go', { place: { kind: 'host', hostOffset: host.hostOffset, length: 1 }, tab: 'hex' }))}`
        }
      </div>
      ${
        layers.length === 0
          ? nothing
          : html`<section>
              <h3>Layers</h3>
              ${shown.map((layer) => this.renderLayer(layer))}
              ${
                shown.length < layers.length
                  ? html`<button type="button" class="link" @click=${() => (this.allLayers = true)}>
                      ${counted(layers.length - shown.length, 'more layer')} ${layers.length - shown.length === 1 ? 'holds' : 'hold'}
                      nothing here
                    </button>`
                  : nothing
              }
            </section>`
      }
      ${this.renderPath(path.filter(({ file }) => shown.length === layers.length || shown.some((layer) => layer.path === file)))}
      ${this.renderReferences(references)}
      <section>
        <h3>Bytes</h3>
        ${
          bytesNote === null
            ? nothing
            : html`<p class="muted">
                ${visible(bytesNote)}${locked ? html` ${this.showButton('Unlock…', () => send(this, 'cs-command', COMMANDS.unlock))}` : nothing}
              </p>`
        }
        ${bytes === null || bytes.length === 0 ? nothing : html`<cluster-bytes .bytes=${bytes} .first=${host?.hostOffset ?? guest?.guestOffset ?? 0}></cluster-bytes>`}
      </section>
      ${
        commands.length === 0
          ? nothing
          : html`<section>
              <h3>The same with QEMU's tools</h3>
              ${commands.map(
                (command) =>
                  html`<div class="command">
                    <code class="mono">${visible(command)}</code>
                    <button
                      type="button"
                      class="icon-button"
                      aria-label="Copy command"
                      title="Copy command"
                      @click=${() => send(this, 'cs-copy', { text: command, what: 'command' })}
                    >
                      ${icon('copy')}
                    </button>
                  </div>`,
              )}
            </section>`
      }`;
  }

  /** The entries on the way, by the file that they stand in. */
  private renderPath(path: ClusterInspection['path']): TemplateResult | typeof nothing {
    if (path.length === 0) {
      return nothing;
    }
    const severalFiles = path.some(({ file }) => file !== this.path);
    return html`<section>
      <h3>Entries on the way</h3>
      <ol>
        ${path.map((entry, at) => {
          const heads = severalFiles && entry.file !== path[at - 1]?.file;
          return html`${heads ? html`<li class="file-head" title=${visible(entry.file)}>${visible(baseName(entry.file))}</li>` : nothing}
            <li class="entry">
              <div>${filePlace(entry.file, entry.place, visible(entry.title), this.path)}</div>
              <div class="bytes">
                ${fileOffset(entry.file, entry.hostOffset, this.path)} <span class="mono muted">${spacedHex(entry.rawHex)}</span>
              </div>
              <div>${visible(entry.decoded)}</div>
            </li>`;
        })}
      </ol>
    </section>`;
  }

  private showButton(label: string, run: () => void): TemplateResult {
    return html`<button type="button" class="link" @click=${run}>${label}</button>`;
  }

  private renderRefcount(refcount: number | null, references: ClusterInspection['references']): TemplateResult | typeof nothing {
    if (refcount === null) {
      return nothing;
    }
    const differs = references !== null && references.count !== refcount;
    return html`<dt>Refcount</dt>
      <dd class=${differs ? 'differs' : ''}>
        ${grouped(refcount)}${references === null ? '' : differs ? `, but ${grouped(references.count)} references` : `, as many references`}
      </dd>`;
  }

  private renderReferences(references: ClusterInspection['references']): TemplateResult | typeof nothing {
    if (references === null || references.count === 0) {
      return nothing;
    }
    const more = references.count - references.places.length;
    return html`<section>
      <h3>References</h3>
      <ul class="references" tabindex="0" aria-label="References">
        ${references.places.map(({ label, place }) => html`<li>${placeLink(place, { text: visible(label) })}</li>`)}
        ${more > 0 ? html`<li class="muted">and ${grouped(more)} more</li>` : nothing}
      </ul>
    </section>`;
  }

  private renderLayer(layer: LayerTranslation): TemplateResult {
    const { path, class: kind, supplies } = layer;
    return html`<div class="layer ${supplies ? '' : 'passed'}" title=${visible(path)}>
      <class-swatch .classId=${kind}></class-swatch>
      <span class="file ${supplies ? 'supplies' : ''}">${visible(baseName(path))}</span>
      <span>${lookOf(kind, 0).label.toLowerCase()} ${layerOffset(layer, this.path)}</span>
    </div>`;
  }
}

customElements.define('cluster-inspector', ClusterInspector);
