import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Browser } from 'playwright-core';

import { launchChromium } from '../../scripts/vscode/browser.mjs';
import { ImageEditor } from '../harness/imageEditor';
import { startTestServer, type TestServer } from '../harness/vscodeServer';
import { VsCodeWindow } from '../harness/window';
import type { FigureCase } from './case';
import { writeLargeQcow2 } from './largeImages';

/* What a person waits for, in the real window: Chromium on a served VS Code, the 1 TiB image. */

const IMAGE = 'one-tebibyte.qcow2';
const OVERVIEW_PAINTED = 'chainscope-overview-painted';
const MAP_PAINTED = 'chainscope-map-painted';
/** Steps of the wheel and of the pan that the frame rate is measured over. */
const STEPS = 60;

interface Opened {
  readonly browser: Browser;
  readonly server: TestServer;
  readonly window: VsCodeWindow;
}

/** The window of the case that is running. */
let opened: Opened | undefined;

async function prepare(folder: string): Promise<void> {
  const workspace = path.join(folder, 'window');
  fs.mkdirSync(workspace, { recursive: true });
  if (!fs.existsSync(path.join(workspace, IMAGE))) {
    writeLargeQcow2(path.join(workspace, IMAGE), { size: 2 ** 40, share: 0.6, run: 64, scattered: true, seed: 3 });
  }
  const server = await startTestServer({ log: 'bench-server' });
  const browser = await launchChromium();
  opened = { browser, server, window: await VsCodeWindow.open(browser, server.address(workspace)) };
}

async function finish(): Promise<void> {
  await opened?.browser.close();
  await opened?.server.stop();
  opened = undefined;
}

async function openFresh(): Promise<ImageEditor> {
  if (!opened) {
    throw new Error('The window is used before it was opened.');
  }
  const { window } = opened;
  if (await window.tab(IMAGE).isVisible()) {
    await window.closeAllEditors();
  }
  return ImageEditor.open(window, IMAGE);
}

/** Opens the map afresh and returns the milliseconds from the click on its tab until the whole map was on the screen. */
async function showMap(editor: ImageEditor): Promise<number> {
  const frame = await editor.frame();
  const clicked = await frame.evaluate(() => performance.now());
  await editor.tab('Map').click();
  await editor.mapPainted();
  const painted = await frame.evaluate((mark) => performance.getEntriesByName(mark)[0]?.startTime ?? NaN, MAP_PAINTED);
  return painted - clicked;
}

/** Milliseconds between frames while the wheel zooms in and out and the mouse drags. */
async function frameIntervals(editor: ImageEditor): Promise<readonly number[]> {
  const { page } = editor.window;
  const frame = await editor.frame();
  const canvas = await editor.panel('Map').locator('canvas').first().boundingBox();
  if (!canvas) {
    throw new Error('The map has no canvas.');
  }
  const centre = { x: canvas.x + canvas.width / 2, y: canvas.y + canvas.height / 2 };
  await page.mouse.move(centre.x, centre.y);
  await frame.evaluate(() => globalThis.chainscopeFrames?.start());
  for (let step = 0; step < STEPS; step++) {
    await page.mouse.wheel(0, step < STEPS / 2 ? -60 : 60);
  }
  await page.mouse.down();
  for (let step = 0; step < STEPS; step++) {
    await page.mouse.move(centre.x + Math.sin(step / 5) * 150, centre.y + Math.cos(step / 5) * 100);
  }
  await page.mouse.up();
  return frame.evaluate(() => globalThis.chainscopeFrames?.stop().intervals ?? []);
}

/** What *Show Running Extensions* says of the extension after the window was loaded anew and the view was shown. */
async function activationMs(): Promise<number> {
  if (!opened) {
    throw new Error('The window is used before it was opened.');
  }
  const { window } = opened;
  await window.reload();
  await window.showViewContainer('Image Chains');
  await window.treeRow(/^one-tebibyte/).waitFor();
  await window.runCommand('Developer: Show Running Extensions');
  const row = window.page.locator('.runtime-extensions-editor .monaco-list-row').filter({ hasText: 'Chainscope' });
  const text = await row
    .getByText(/Activation: \d+ms/)
    .first()
    .innerText();
  return Number(/Activation: (\d+)ms/.exec(text)?.[1] ?? NaN);
}

declare global {
  /** What the map's page offers (webview/map/frame-probe.ts). */
  var chainscopeFrames: { start(): void; stop(): { intervals: readonly number[]; drawing: readonly number[] } } | undefined;
}

export const windowCases: readonly FigureCase[] = [
  {
    prepare,
    finish,
    name: 'opening the 1 TiB image, page loaded to first painted Overview',
    unit: 'ms',
    target: 300,
    measure: async (): Promise<number> => {
      const editor = await openFresh();
      const frame = await editor.frame();
      return frame.evaluate((mark) => {
        const script = performance.getEntriesByType('resource').find(({ name }) => name.endsWith('/main.js')) as
          PerformanceResourceTiming | undefined;
        return (performance.getEntriesByName(mark)[0]?.startTime ?? NaN) - (script?.responseEnd ?? NaN);
      }, OVERVIEW_PAINTED);
    },
  },
  {
    prepare,
    finish,
    name: 'whole guest map of the 1 TiB image on the screen',
    unit: 'ms',
    target: 1000,
    measure: async (): Promise<number> => showMap(await openFresh()),
  },
  {
    prepare,
    finish,
    name: 'zooming and panning that map, median frame rate',
    unit: 'frames/s',
    target: 60,
    measure: async (): Promise<number> => {
      const editor = await openFresh();
      await showMap(editor);
      const intervals = [...(await frameIntervals(editor))].sort((a, b) => a - b);
      return 1000 / (intervals[Math.floor(intervals.length / 2)] ?? NaN);
    },
  },
  {
    prepare,
    finish,
    name: 'activation of the extension, as VS Code tells it',
    unit: 'ms',
    target: 50,
    measure: activationMs,
  },
];
