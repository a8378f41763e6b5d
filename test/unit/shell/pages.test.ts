import { describe, expect, it } from 'vitest';

import { contentSecurityPolicy, editorPage, failurePage } from '../../../src/shell/editor/html';

const parts = {
  nonce: 'N0nce',
  cspSource: 'https://*.vscode-cdn.net',
  script: 'https://x.vscode-cdn.net/main.js?a&b',
  styleSheet: 'https://x.vscode-cdn.net/main.css',
  title: '</title><script>alert(1)</script>.qcow2',
};

describe("the editor's page", () => {
  it('lets nothing run or load but its own script and style sheet', () => {
    expect(contentSecurityPolicy('N0nce', 'SOURCE').split('; ')).toEqual([
      `default-src 'none'`,
      `script-src 'nonce-N0nce'`,
      `style-src SOURCE`,
      `font-src SOURCE`,
      `img-src SOURCE`,
      `base-uri 'none'`,
      `form-action 'none'`,
    ]);
  });

  it('has one script, with the nonce, and nothing inline', () => {
    const html = editorPage(parts);
    expect(html.match(/<script[^>]*>/g)).toEqual([`<script type="module" nonce="N0nce" src="https://x.vscode-cdn.net/main.js?a&amp;b">`]);
    expect(html).not.toMatch(/<style|\sstyle=|\son\w+=|javascript:/i);
    expect(html).toContain('&lt;/title&gt;');
  });

  it('says why an image could not be opened, without any script', () => {
    const html = failurePage({ title: '<b>.qcow2', message: '<img onerror=x src=y>\u202e', remedy: 'Do "this".', retried: true });
    expect(html).toContain(`content="default-src &#39;none&#39;"`);
    expect(html).not.toMatch(/<script|<img|<b>|\u202e/);
    expect(html).toContain('&lt;img onerror=x src=y&gt;');
  });
});
