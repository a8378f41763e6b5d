import { html, nothing, type TemplateResult } from 'lit';
import type { Overview } from '../../src/protocol/inspect';
import type { LayerView } from '../../src/protocol/place';
import { visible } from '../format/text';
import { ACTIVE, viewKey } from '../state/places';

/** A choice between the active mapping and those of the internal snapshots; nothing when there are none. */
export function viewSelect(overview: Overview, view: LayerView, choose: (view: LayerView) => void): TemplateResult | typeof nothing {
  const snapshots = overview.chain.links[0]?.image?.snapshots ?? [];
  if (snapshots.length === 0) {
    return nothing;
  }
  const views: readonly { view: LayerView; label: string }[] = [
    { view: ACTIVE, label: 'Active layer' },
    ...snapshots.map(({ index, id, name }) => ({
      view: { kind: 'snapshot', index } as const,
      label: `Snapshot ${visible(id)}: ${visible(name)}`,
    })),
  ];
  return html`<select
    aria-label="Which mapping"
    title="Which mapping of guest to host"
    @change=${(event: Event) => choose(views[(event.currentTarget as HTMLSelectElement).selectedIndex]?.view ?? ACTIVE)}
  >
    ${views.map((each) => html`<option value=${viewKey(each.view)} ?selected=${viewKey(each.view) === viewKey(view)}>${each.label}</option>`)}
  </select>`;
}
