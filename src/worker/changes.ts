import type { FieldView, Overview } from '../protocol/inspect';

/**
 * What differs between two readings of an image, as `structure.field` (by the structure's id) and `fact.name`, for highlighting. A
 * structure that was not there before is named whole.
 */
export function changedFields(before: Overview, after: Overview): string[] {
  const changed: string[] = [];
  const known = new Map(before.structures.map((structure) => [structure.id, structure]));
  for (const { id, fields } of after.structures) {
    const old = known.get(id);
    if (!old) {
      changed.push(id);
      continue;
    }
    const values = new Map(old.fields.map((field) => [field.name, valueOf(field)]));
    changed.push(...fields.filter((field) => values.get(field.name) !== valueOf(field)).map(({ name }) => `${id}.${name}`));
  }
  const facts = new Map(before.facts.map(({ name, value }) => [name, value]));
  changed.push(...after.facts.filter(({ name, value }) => facts.get(name) !== value).map(({ name }) => `fact.${name}`));
  return changed;
}

function valueOf({ hostOffset, rawHex, value }: FieldView): string {
  return `${hostOffset} ${rawHex} ${value}`;
}
