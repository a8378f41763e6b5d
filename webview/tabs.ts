import type { Overview } from '../src/protocol/inspect';
import type { EditorTab } from '../src/protocol/webview';
import type { TabItem } from './components/tab-bar';
import { grouped } from './format/numbers';
import { TABS } from './state/kept';

export const TAB_LABELS: Readonly<Record<EditorTab, string>> = {
  overview: 'Overview',
  map: 'Map',
  tables: 'Tables',
  snapshots: 'Snapshots & Bitmaps',
  check: 'Check',
  hex: 'Hex',
};

/** Whether an image has something to show in a tab; null: nothing is known of it yet. */
export function hasTab(overview: Overview | null, tab: EditorTab): boolean {
  const has = overview?.has;
  switch (tab) {
    case 'overview':
    case 'hex':
      return true;
    case 'map':
      return has !== undefined && (has.guestMap || has.hostMap);
    case 'tables':
    case 'snapshots':
    case 'check':
      return has?.[tab] ?? false;
  }
}

/** @param findings of the last check */
export function tabItems(overview: Overview | null, findings: number): readonly TabItem[] {
  return TABS.map((id) => ({
    id,
    label: TAB_LABELS[id],
    badge: id === 'check' && findings > 0 ? grouped(findings) : null,
    disabled: !hasTab(overview, id),
  }));
}
