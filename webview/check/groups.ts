import type { CheckReport, Finding, FindingCategory, FindingKind } from '../../src/protocol/check';
import { describePlace } from '../state/places';
import { CATEGORIES, CATEGORY_ORDER, KIND_TITLES } from './kinds';

/** All findings of one kind. */
export interface FindingGroup {
  readonly kind: FindingKind;
  readonly category: FindingCategory;
  /** How many there are; more than are listed when there were too many. */
  readonly count: number;
  readonly findings: readonly Finding[];
}

/** What is typed into the filter, word by word. */
export function wordsOf(filter: string): readonly string[] {
  return filter.toLowerCase().split(/\s+/).filter(Boolean);
}

/** Kinds in the order of their weight; each with those of its findings that are listed and have all the words. */
export function groupsOf(report: CheckReport, words: readonly string[]): readonly FindingGroup[] {
  const byKind = new Map<FindingKind, Finding[]>();
  for (const finding of report.findings) {
    const text = textOf(finding);
    if (words.every((word) => text.includes(word))) {
      const listed = byKind.get(finding.kind);
      if (listed === undefined) {
        byKind.set(finding.kind, [finding]);
      } else {
        listed.push(finding);
      }
    }
  }
  return report.kinds
    .filter(({ count }) => count > 0)
    .map(({ kind, category, count }) => ({ kind, category, count, findings: byKind.get(kind) ?? [] }))
    .sort((a, b) => CATEGORY_ORDER.indexOf(a.category) - CATEGORY_ORDER.indexOf(b.category));
}

function textOf({ kind, category, message, consequence, place, cluster }: Finding): string {
  const places = [place, cluster].map((each) => (each === null ? '' : describePlace(each)));
  return [KIND_TITLES[kind], CATEGORIES[category].label, message, consequence, ...places].join(' ').toLowerCase();
}
