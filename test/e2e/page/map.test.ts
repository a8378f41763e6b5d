import assert from 'node:assert/strict';
import { usePages } from './harness/fixture';
import type { EditorPage } from './harness/pageHarness';

/** Opens the map and waits until it is whole on the screen. */
async function openMap(editor: EditorPage): Promise<void> {
  await editor.tab('Map').click();
  await editor.mapPainted();
}

/** A pixel of the map, as a picture to compare; at a part of its canvas, 0 to 1 from the left and the top. */
async function pixelAt({ page }: EditorPage, left: number, top: number): Promise<string> {
  await page.mouse.move(0, 0);
  const box = await page.locator('map-canvas').boundingBox();
  assert.ok(box !== null);
  const clip = { x: Math.floor(box.x + box.width * left), y: Math.floor(box.y + box.height * top), width: 1, height: 1 };
  return (await page.screenshot({ clip })).toString('base64');
}

describe('page: maps', () => {
  const pages = usePages();

  it('show the guest disk with a legend whose counts are the whole disk', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    assert.match(await editor.text('map-legend'), /Unallocated \d.* Data .* Zero .* Compressed /);
    const clusters = (await editor.page.locator('map-legend').locator('.count').allInnerTexts()).map((text) =>
      Number(text.split('·')[1]?.replaceAll(',', '')),
    );
    assert.equal(
      clusters.reduce((sum, count) => sum + count, 0),
      65_536,
    );
  });

  it('tell by words what the map is, and each cell that the cursor goes to', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    const map = editor.page.getByRole('application', { name: 'Guest map' });
    assert.match((await map.locator('#summary').textContent()) ?? '', /^65,536 clusters of 64 KiB: Unallocated .*; Data /);
    await editor.tab('Map').press('Tab');
    await map.focus();
    for (let step = 0; step < 6; step++) {
      await editor.page.keyboard.press('+');
    }
    const heard = new Set<string>();
    for (const key of ['ArrowRight', 'ArrowDown', 'ArrowLeft', 'ArrowUp']) {
      await editor.page.keyboard.press(key);
      await editor.settled();
      heard.add(await editor.announced());
    }
    assert.equal(heard.size, 4, [...heard].join('\n'));
    assert.match([...heard][0] ?? '', /guest offset 0x/);
  });

  it('inspect the cell that is clicked, and the one under the cursor by Enter', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    const inspector = editor.page.locator('cluster-inspector');
    await editor.page.locator('map-canvas').click({ position: { x: 300, y: 300 } });
    await inspector.locator('h2').filter({ hasText: 'Guest cluster' }).waitFor();
    const clicked = await inspector.locator('h2').innerText();
    assert.match(clicked, /^Guest cluster \d/);
    await editor.page.keyboard.press('ArrowRight');
    await editor.page.keyboard.press('Enter');
    await inspector.locator('h2').filter({ hasNotText: clicked }).waitFor();
  });

  it('zoom around the pointer by the wheel, by keys and buttons, and show the whole by Home', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    const whole = await pixelAt(editor, 0.5, 0.02);
    const map = editor.page.locator('map-canvas');
    await map.hover({ position: { x: 400, y: 300 } });
    await editor.page.mouse.wheel(0, -2000);
    await editor.settled();
    const kept = await editor.saved((state) => state.map.viewport !== null);
    assert.ok((kept.map.viewport?.scale ?? 0) > 10);
    await editor.page.getByRole('application').focus();
    await editor.page.keyboard.press('Home');
    await editor.saved((state) => state.map.viewport === null);
    await editor.settled();
    assert.equal(await pixelAt(editor, 0.5, 0.02), whole);
    await editor.page.getByRole('button', { name: 'Zoom in (+)' }).click();
    await editor.saved((state) => state.map.viewport !== null);
  });

  it('pan by drag without inspecting', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    await editor.page.locator('map-canvas').hover({ position: { x: 400, y: 300 } });
    await editor.page.mouse.wheel(0, -1200);
    const before = (await editor.saved((state) => state.map.viewport !== null)).map.viewport?.centerX ?? 0;
    await editor.page.mouse.down();
    await editor.page.mouse.move(200, 300, { steps: 5 });
    await editor.page.mouse.up();
    await editor.saved((state) => (state.map.viewport?.centerX ?? 0) > before);
    assert.equal(await editor.page.locator('cluster-inspector').count(), 0);
  });

  it('dim all but the chosen classes', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    const before = await pixelAt(editor, 0.5, 0.5);
    await editor.page
      .locator('map-legend')
      .getByRole('button', { name: /Compressed/ })
      .click();
    await editor.settled();
    assert.notEqual(await pixelAt(editor, 0.5, 0.5), before);
    await editor.page.getByRole('button', { name: 'Show all classes' }).click();
    await editor.settled();
    assert.equal(await pixelAt(editor, 0.5, 0.5), before);
  });

  it('colour by the layer that supplies, and show the file', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    await editor.page.getByRole('radio', { name: 'Layer' }).click();
    await editor.page.locator('map-legend').getByText('debian-12-base.qcow2').waitFor();
    await editor.page.locator('map-tab').getByRole('radio', { name: 'Host' }).click();
    await editor.page.getByRole('application', { name: 'Host map' }).waitFor();
    await editor.settled();
    assert.match(await editor.text('map-legend'), /L2 table .* Header /);
  });

  it('look at a snapshot', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    const active = await editor.text('map-legend');
    await editor.page.getByLabel('Which mapping').selectOption({ index: 1 });
    await editor.settled();
    assert.notEqual(await editor.text('map-legend'), active);
  });

  it('follow the theme', async () => {
    const editor = await pages().openSample('chain');
    await openMap(editor);
    const dark = await pixelAt(editor, 0.5, 0.5);
    await editor.setTheme('high-contrast-light');
    await editor.settled();
    assert.notEqual(await pixelAt(editor, 0.5, 0.5), dark);
  });

  it('show what is at hand when a tile fails, and try again when told', async () => {
    const image = await pages().image('chain');
    image.disturbance.failing.set('mapTile', 'The file went away.');
    const editor = await pages().open(image);
    await editor.page.getByRole('tabpanel').waitFor();
    await editor.tab('Map').click();
    await editor.page.getByText('The file went away.').waitFor();
    image.disturbance.failing.clear();
    await editor.page.getByRole('button', { name: 'Try Again' }).click();
    await editor.mapPainted();
  });
});
