import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const root = new URL('../../../', import.meta.url);
const manifestText = readFileSync(new URL('package.json', root), 'utf8');
const manifest = JSON.parse(manifestText) as {
  icon: string;
  contributes: {
    commands: { command: string }[];
    menus: Record<string, { command?: string; submenu?: string; when?: string }[]>;
    submenus: { id: string }[];
    walkthroughs: { steps: { media: { image: Record<string, string> } }[] }[];
    viewsContainers: { activitybar: { icon: string }[] };
  };
};
const texts = JSON.parse(readFileSync(new URL('package.nls.json', root), 'utf8')) as Record<string, string>;
const wiring = readFileSync(new URL('src/extension.ts', root), 'utf8');

describe('the manifest', () => {
  const commands = manifest.contributes.commands.map(({ command }) => command.replace(/^chainscope\./, ''));

  it('declares every command that is registered, and no other', () => {
    const table = wiring.slice(wiring.indexOf('const commands'), wiring.indexOf('for (const [name, run]'));
    const registered = [...table.matchAll(/^ {4}(\w+):/gm)].map(([, name]) => name);
    expect(commands.toSorted()).toEqual(registered.toSorted());
  });

  it('puts declared commands only into menus', () => {
    const used = Object.values(manifest.contributes.menus).flat();
    const named = used.flatMap(({ command }) => (command === undefined ? [] : [command.replace(/^chainscope\./, '')]));
    expect(named.filter((name) => !commands.includes(name))).toEqual([]);
    const submenus = new Set(used.flatMap(({ submenu }) => submenu ?? []));
    expect(submenus).toEqual(new Set(manifest.contributes.submenus.map(({ id }) => id)));
  });

  it('has every text it names, and names every text it has', () => {
    const named = [...manifestText.matchAll(/"%([\w.]+)%"/g)].map(([, key]) => key);
    expect([...new Set(named)].toSorted()).toEqual(Object.keys(texts).toSorted());
  });

  it("runs only its own commands and VS Code's from its texts", () => {
    const run = Object.values(texts).flatMap((text) => [...text.matchAll(/\(command:([\w.]+)\)/g)].map(([, command]) => command ?? ''));
    const foreign = run.filter((command) => !commands.includes(command.replace(/^chainscope\./, '')));
    expect(new Set(foreign)).toEqual(new Set(['chainscope.chains.focus', 'vscode.openFolder', 'workbench.trust.manage']));
  });

  it('points at pictures that are there', () => {
    const { viewsContainers, walkthroughs } = manifest.contributes;
    const pictures = walkthroughs.flatMap(({ steps }) => steps.flatMap(({ media }) => Object.values(media.image)));
    const files = [manifest.icon, ...viewsContainers.activitybar.map(({ icon }) => icon), ...pictures];
    expect(files.filter((file) => !existsSync(new URL(file, root)))).toEqual([]);
  });
});
