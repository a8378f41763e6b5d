import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { ROOT } from '../../../../scripts/run/paths.mjs';
import { editorPage } from '../../../../src/shell/editor/html';
import type { Kept } from '../../../../webview/state/kept';
import type { ThemeKind } from '../../../harness/theme';
import dark from '../themes/dark.json';
import highContrastDark from '../themes/high-contrast-dark.json';
import highContrastLight from '../themes/high-contrast-light.json';
import light from '../themes/light.json';
import type { CheckReport } from '../../../../src/protocol/check';
import { applyTheme, installVsCodeApi, type PageTheme } from './browserSide';
import { PageShell, type ImageBackend } from './shell';
import { pack, unpack } from './wire';

/** The variables that a webview sees in VS Code 1.139, as dumped there. */
const THEMES: Readonly<Record<ThemeKind, PageTheme>> = {
  dark,
  light,
  'high-contrast-dark': highContrastDark,
  'high-contrast-light': highContrastLight,
};

/** The one rule of VS Code's default style sheet for webviews that the page has to cope with. */
const DEFAULT_STYLE = '@layer vscode-default { body { margin: 0; padding: 0 20px; font: 13px system-ui; } }';

export interface PageOptions {
  readonly theme?: ThemeKind;
  readonly size?: { readonly width: number; readonly height: number };
  readonly pixelRatio?: number;
  /** What the page saved the last time it was there. */
  readonly saved?: unknown;
  readonly prepare?: (shell: PageShell) => void;
  readonly reducedMotion?: boolean;
}

/** How long one step may take on a slow and busy machine, in milliseconds. */
const STEP_TIMEOUT = 120_000;

/** The editor's page in a plain browser window, with a played shell behind it. */
export class EditorPage {
  readonly page: Page;
  readonly shell: PageShell;
  private readonly backend: ImageBackend;
  /** Errors of the page's script and console. */
  readonly errors: string[] = [];

  private constructor(page: Page, shell: PageShell, backend: ImageBackend) {
    this.backend = backend;
    this.page = page;
    this.shell = shell;
    page.on('pageerror', (error) => this.errors.push(error.stack ?? error.message));
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') {
        this.errors.push(message.text());
      }
    });
  }

  static async open(
    browser: Browser,
    address: string,
    backend: ImageBackend,
    { theme = 'dark', size = { width: 1100, height: 760 }, pixelRatio = 1, saved, prepare, reducedMotion = true }: PageOptions = {},
  ): Promise<EditorPage> {
    const context = await browser.newContext({
      viewport: size,
      deviceScaleFactor: pixelRatio,
      reducedMotion: reducedMotion ? 'reduce' : 'no-preference',
    });
    const page = await context.newPage();
    page.setDefaultTimeout(STEP_TIMEOUT);
    const shell = new PageShell(backend, (message) => deliver(page, pack(message)));
    prepare?.(shell);
    const editor = new EditorPage(page, shell, backend);
    await page.exposeFunction('chainscopeSend', (text: string) => shell.receive(unpack(text)));
    await page.addInitScript(installVsCodeApi, saved);
    await page.addInitScript(applyTheme, THEMES[theme]);
    await page.goto(address);
    return editor;
  }

  async setTheme(theme: ThemeKind): Promise<void> {
    await this.page.evaluate(applyTheme, THEMES[theme]);
  }

  /** Breaches of the content security policy so far. */
  violations(): Promise<string[]> {
    return this.page.evaluate(() => (window as unknown as { chainscopeViolations: string[] }).chainscopeViolations);
  }

  tab(name: string): ReturnType<Page['getByRole']> {
    return this.page.getByRole('tab', { name, exact: true });
  }

  panel(name: string): ReturnType<Page['getByRole']> {
    return this.page.getByRole('tabpanel', { name, exact: true });
  }

  /** Types an address and goes there. */
  async address(text: string): Promise<void> {
    await this.page.getByRole('search', { name: 'Address' }).getByRole('textbox').fill(text);
    await this.page.keyboard.press('Enter');
  }

  /** Checks the image as the shell does when its command is run, and shows the report. */
  async playCheck(deep = false): Promise<CheckReport> {
    const report = await this.backend.call(
      'check',
      { deep, maxFindings: 1000 },
      { signal: new AbortController().signal, onProgress: () => undefined },
    );
    await this.shell.checkProgress(0, null);
    await this.shell.showReport(report);
    await this.panel('Check').locator('.verdict').waitFor();
    await this.settled();
    return report;
  }

  /** All text of an element, its shadow roots and what is slotted in; as one reads it, with single blanks. */
  text(selector: string): Promise<string> {
    return this.page
      .locator(selector)
      .first()
      .evaluate((element) => {
        const textOf = (node: Node): string => {
          if (node instanceof Text) {
            return node.data;
          }
          if (node instanceof HTMLElement && (node.localName === 'style' || getComputedStyle(node).display === 'none')) {
            return '';
          }
          const children =
            node instanceof Element && node.shadowRoot !== null
              ? [node.shadowRoot]
              : node instanceof HTMLSlotElement
                ? node.assignedNodes({ flatten: true })
                : Array.from(node.childNodes);
          return children.map(textOf).join(' ');
        };
        return textOf(element)
          .replace(/\s+/g, ' ')
          .replace(/ (?=[,.:;])/g, '')
          .trim();
      });
  }

  /** The element with the focus in words: its role, name and text. */
  focused(): Promise<string> {
    return this.page.evaluate(() => {
      let element = document.activeElement;
      for (let inner = element; inner !== null; inner = inner.shadowRoot?.activeElement ?? null) {
        element = inner;
      }
      return `${element?.getAttribute('role') ?? element?.localName ?? ''}: ${element?.getAttribute('aria-label') ?? element?.textContent.trim() ?? ''}`;
    });
  }

  /** The sentence that was last told to those who listen. */
  announced(): Promise<string> {
    return this.page.locator('chainscope-app > [aria-live=polite], [aria-live=polite]').last().innerText();
  }

  /** What the page has saved, as soon as it is as the test wants it. */
  async saved(wanted: (state: Kept) => boolean): Promise<Kept> {
    for (;;) {
      const state = await this.page.evaluate(() => (window as unknown as { chainscopeState(): Kept | undefined }).chainscopeState());
      if (state !== undefined && wanted(state)) {
        return state;
      }
      await this.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    }
  }

  /** Waits until a map is whole on the screen. */
  async mapPainted(): Promise<void> {
    await this.page.waitForFunction(() => performance.getEntriesByName('chainscope-map-painted').length > 0);
    await this.settled();
  }

  /** Waits until nothing is being asked of the engine and what came is on the screen. */
  async settled(): Promise<void> {
    let received: number;
    do {
      received = this.shell.received;
      await this.shell.quiet();
      await this.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
      // What was shown may have made the page ask for more.
    } while (this.shell.received !== received || !this.shell.isQuiet);
  }

  async close(): Promise<void> {
    this.shell.dispose();
    await this.page.context().close();
  }
}

/** A page that is being closed takes nothing any more. */
async function deliver(page: Page, text: string): Promise<void> {
  if (!page.isClosed()) {
    await page.evaluate(
      (packed) => (window as unknown as { chainscopeDeliver(text: string): Promise<void> }).chainscopeDeliver(packed),
      text,
    );
  }
}

/** Serves the page as the shell writes it, with the same content security policy. */
export class PageServer {
  readonly address: string;
  private readonly server: Server;

  private constructor(server: Server) {
    this.server = server;
    this.address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  }

  static async start(): Promise<PageServer> {
    const server = createServer((request, response) => {
      const name = new URL(request.url ?? '/', 'http://page').pathname.slice(1);
      answer(name).then(
        ({ type, body }) => response.writeHead(200, { 'content-type': type }).end(body),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new PageServer(server);
  }

  async stop(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

async function answer(name: string): Promise<{ type: string; body: string | Buffer }> {
  if (name === '') {
    const body = editorPage({
      nonce: 'page-test',
      cspSource: "'self'",
      script: '/main.js',
      styleSheet: '/main.css',
      title: 'sample.qcow2',
    }).replace('<title>', '<link rel="stylesheet" href="/default.css">\n<title>');
    return { type: 'text/html', body };
  }
  if (name === 'favicon.ico') {
    return { type: 'image/x-icon', body: '' };
  }
  if (name === 'default.css') {
    return { type: 'text/css', body: DEFAULT_STYLE };
  }
  const type = { js: 'text/javascript', css: 'text/css', map: 'application/json' }[name.split('.').at(-1) ?? ''];
  if (type === undefined || !/^[\w.-]+$/.test(name)) {
    throw new Error(`The page has no ${name}.`);
  }
  return { type, body: await readFile(join(ROOT, 'dist', 'webview', name)) };
}
