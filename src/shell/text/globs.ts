/** A name as a glob that matches nothing else. */
export function literalGlob(name: string): string {
  return name.replace(/[*?{}[\]]/g, '[$&]');
}
