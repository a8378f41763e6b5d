import { rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'playwright-core';
import { launchChromium } from '../../../../scripts/vscode/browser.mjs';
import { writeSampleImages } from '../../../../src/engine/sample/write';
import { TestEngine, type EngineImage } from './engineImage';
import { EditorPage, PageServer, type PageOptions } from './pageHarness';

/** The sample images, by what they are good for in a test. */
export const SAMPLES = {
  /** Active layer of a chain of three, with two snapshots and two bitmaps. */
  chain: 'web-server-staging.qcow2',
  extendedL2: 'database-extended-l2.qcow2',
  /** Its backing file is missing. */
  orphan: 'orphan.qcow2',
  leaked: 'leaked-clusters.qcow2',
  corrupted: 'corrupted.qcow2',
  base: 'debian-12-base.qcow2',
} as const;

/** A browser, the real engine and a folder of sample images, for one describe block. */
export class PageFixture {
  readonly folder: string;
  readonly engine: TestEngine;
  private readonly browser: Browser;
  private readonly server: PageServer;
  private readonly pages: EditorPage[] = [];

  private constructor(folder: string, browser: Browser, server: PageServer) {
    this.folder = folder;
    this.browser = browser;
    this.server = server;
    this.engine = new TestEngine();
  }

  static async start(): Promise<PageFixture> {
    const folder = await mkdtemp(join(tmpdir(), 'chainscope-page-'));
    writeSampleImages(folder);
    return new PageFixture(folder, await launchChromium(), await PageServer.start());
  }

  image(name: keyof typeof SAMPLES): Promise<EngineImage> {
    return this.engine.open(join(this.folder, SAMPLES[name]));
  }

  /** Opens the page on an image and waits until there is something to see. */
  async open(image: EngineImage, options: PageOptions = {}): Promise<EditorPage> {
    const page = await EditorPage.open(this.browser, this.server.address, image, options);
    this.pages.push(page);
    return page;
  }

  /** Opens the page on a sample and waits for its overview, or whatever tab it begins with. */
  async openSample(name: keyof typeof SAMPLES, options: PageOptions = {}): Promise<EditorPage> {
    const page = await this.open(await this.image(name), options);
    await page.page.getByRole('tabpanel').first().waitFor();
    return page;
  }

  /** Closes the pages of a test; a page that complained fails it. */
  async closePages(): Promise<void> {
    const complaints: string[] = [];
    for (const page of this.pages.splice(0)) {
      complaints.push(...(await page.violations()), ...page.errors);
      await page.close();
    }
    if (complaints.length > 0) {
      throw new Error(`The page complained: ${complaints.join('\n')}`);
    }
  }

  async stop(): Promise<void> {
    await this.browser.close();
    await this.server.stop();
    await this.engine.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A fixture for the tests of a describe block. */
export function usePages(): () => PageFixture {
  let fixture: PageFixture | undefined;
  before(async () => {
    fixture = await PageFixture.start();
  });
  afterEach(() => fixture?.closePages());
  after(() => fixture?.stop());
  return () => {
    if (fixture === undefined) {
      throw new Error('The fixture is there once the tests run.');
    }
    return fixture;
  };
}
