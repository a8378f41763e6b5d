import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { buildForest } from '../../../src/shell/chains/forest';
import { rowOf } from '../../../src/shell/chains/rows';
import { escapeHtml } from '../../../src/shell/editor/html';
import { formatBytes, formatBytesExactly } from '../../../src/shell/text/bytes';
import { literalGlob } from '../../../src/shell/text/globs';
import { escapeMarkdown } from '../../../src/shell/text/markdown';
import { labelText, messageText, plainText } from '../../../src/shell/text/plain';
import { active, known } from './chainFixtures';

describe('bytes', () => {
  it.each([
    [0, '0 B'],
    [512, '512 B'],
    [65_536, '64 KiB'],
    [1_300_000_000, '1.21 GiB'],
    [1023 * 1024, '1023 KiB'],
    [1024 ** 2 - 1, '1 MiB'],
    [64 * 1024 ** 4, '64 TiB'],
    [Number.MAX_SAFE_INTEGER, '8 PiB'],
  ])('%d are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it('are told exactly beside', () => {
    expect([formatBytesExactly(513), formatBytesExactly(65_536)]).toEqual(['513 bytes', '64 KiB (65,536 bytes)']);
  });
});

describe('plain text', () => {
  it('is one line of visible characters, whatever comes in', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
        expect(plainText(text)).toMatch(/^[^\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]*$/u);
      }),
    );
  });

  it('leaves ordinary names alone', () => {
    expect(plainText('Überträger 磁盘 $(x) <b>.qcow2')).toBe('Überträger 磁盘 $(x) <b>.qcow2');
  });

  it('cuts overlong names in the middle', () => {
    const cut = plainText(`${'a'.repeat(500)}.qcow2`);
    expect(cut.length).toBeLessThanOrEqual(160);
    expect(cut).toMatch(/^a+…a+\.qcow2$/);
  });
});

describe('what VS Code makes links and icons of', () => {
  it('stays text in notifications and labels', () => {
    expect(messageText('[click](command:workbench.action.quit).qcow2 could not be checked')).toBe(
      '[click] (command:workbench.action.quit).qcow2 could not be checked',
    );
    expect(labelText('$(flame).qcow2')).toBe('$ (flame).qcow2');
  });

  it('goes through one door', () => {
    const shell = fileURLToPath(new URL('../../../src/', import.meta.url));
    const sources = ['extension.ts', ...readdirSync(`${shell}shell`, { recursive: true, encoding: 'utf8' }).map((file) => `shell/${file}`)];
    const others = sources.filter((file) => file.endsWith('.ts') && file !== 'shell/messages.ts');
    expect(others.filter((file) => /show(Information|Warning|Error)Message/.test(readFileSync(shell + file, 'utf8')))).toEqual([]);
  });
});

describe('Markdown', () => {
  it('has every character that may be markup escaped', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200 }), (text) => {
        const rest = escapeMarkdown(text).replace(/\\[!-/:-@[-`{-~]|&(lt|gt|amp);/g, '');
        expect(rest).not.toMatch(/[!-/:-@[-`{-~]/);
      }),
    );
  });

  it.each([
    ['[x](command:evil)', String.raw`\[x\]\(command\:evil\)`],
    ['<img src=x>', String.raw`&lt;img src\=x&gt;`],
    ['a|b\n# c', String.raw`a\|b\\u\{a\}\# c`],
    ['$(flame) https://x.example', String.raw`\$\(flame\) https\:\/\/x\.example`],
  ])('shows %s as it is', (text, escaped) => expect(escapeMarkdown(text)).toBe(escaped));

  it('is what a tooltip is made of, however the image is called', () => {
    const name = '/w/[click](command:workbench.action.quit)|<script>x</script>\n\n# big.qcow2';
    const [root] = buildForest([known(active(name, { backingName: '![x](http://evil.example/x.png)' }))]).roots;
    const tooltip = root ? rowOf(root).tooltip : '';
    expect(tooltip).toContain('command');
    expect(tooltip).not.toMatch(/\]\(|<script|!\[|http:\/\/|^#/m);
    expect(tooltip.split('\n').filter((line) => line.startsWith('|'))).toHaveLength(9);
  });
});

describe('HTML and globs', () => {
  it('take a name for nothing but text', () => {
    expect(escapeHtml(`<a href="x" title='y'>&`)).toBe('&lt;a href=&quot;x&quot; title=&#39;y&#39;&gt;&amp;');
    expect(literalGlob('a*[b]{c}?.img')).toBe('a[*][[]b[]][{]c[}][?].img');
  });
});
