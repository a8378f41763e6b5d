import { describe, expect, it } from 'vitest';
import type { TablePage, TableRow } from '../../../src/protocol/inspect';
import { plainError } from '../../../src/protocol/imageClient';
import { RowWindow } from '../../../webview/components/row-window';
import { PAGE_ROWS, RowPages } from '../../../webview/tables/row-pages';

/** The L2 entries of 64 TiB in clusters of 64 KiB, in a window of 20 rows. */
function billion(): RowWindow {
  const window = new RowWindow();
  window.resize(440, 22);
  window.setRows(2 ** 30);
  return window;
}

describe('a window on a billion rows', () => {
  it('draws what is in sight and one row more', () => {
    const window = billion();
    expect([window.first, window.visibleCount, window.pageRows, window.shift]).toEqual([0, 21, 20, 0]);
    window.scrollByPixels(33);
    expect([window.first, window.shift]).toEqual([1, 11]);
  });

  it('reaches the last row exactly and goes no further', () => {
    const window = billion();
    window.reveal(2 ** 30 - 1);
    expect([window.first, window.visibleCount]).toEqual([2 ** 30 - 20, 20]);
    expect(window.scrollByPixels(1e12)).toBe(false);
    window.scrollTo(-5);
    expect(window.top).toBe(0);
  });

  it('scrolls just so far that a row is in sight, or puts it into the upper third', () => {
    const window = billion();
    expect([window.reveal(19), window.reveal(20), window.top]).toEqual([false, true, 1]);
    expect([window.revealCentered(15), window.revealCentered(1_000_000), window.first]).toEqual([false, true, 999_994]);
  });

  it('has a slider that can be grabbed, and that leads to both ends', () => {
    const window = billion();
    expect(window.slider(400, 24)).toEqual({ start: 0, length: 24 });
    window.dragTo(376, 400, 24);
    expect([window.first + window.visibleCount, window.slider(400, 24)]).toEqual([2 ** 30, { start: 376, length: 24 }]);
    window.dragTo(188, 400, 24);
    expect(Math.abs(window.first - 2 ** 29)).toBeLessThan(20);
  });

  it('moves by pixels also in the middle of it', () => {
    const window = billion();
    window.scrollTo(2 ** 29);
    window.scrollByPixels(22);
    expect([window.first, window.shift]).toEqual([2 ** 29 + 1, 0]);
  });

  it('needs no slider when all rows fit, and survives having none', () => {
    const window = billion();
    window.setRows(5);
    expect([window.slider(400, 24), window.visibleCount, window.top]).toEqual([null, 5, 0]);
    window.setRows(0);
    expect([window.visibleCount, window.dragTo(10, 400, 24)]).toEqual([0, false]);
  });
});

function rowOf(row: number): TableRow {
  return {
    row,
    hostOffset: row * 8,
    rawHex: '',
    kind: 'data',
    target: null,
    guestOffset: null,
    targetOffset: null,
    targetLength: null,
    flags: [],
    subclusters: null,
    refcount: null,
    problem: null,
  };
}

function paging(rows: number) {
  const asked: { first: number; count: number; signal: AbortSignal; answer: (page: TablePage) => void; fail: (error: Error) => void }[] =
    [];
  let changes = 0;
  const pages = new RowPages(
    rows,
    (first, count, signal) => new Promise((resolve, reject) => asked.push({ first, count, signal, answer: resolve, fail: reject })),
    () => changes++,
  );
  const answer = async (at: number) => {
    const { first, count, answer: give } = asked[at]!;
    give({ first, rows: Array.from({ length: count }, (_, index) => rowOf(first + index)) });
    await new Promise((resolve) => setTimeout(resolve));
  };
  return { pages, asked, answer, changes: () => changes };
}

describe('the pages of a table', () => {
  it('come once, whole, and not past the end', async () => {
    const { pages, asked, answer } = paging(PAGE_ROWS + 10);
    pages.want(PAGE_ROWS - 5, 20);
    expect(asked.map(({ first, count }) => [first, count])).toEqual([
      [0, PAGE_ROWS],
      [PAGE_ROWS, 10],
    ]);
    await answer(1);
    pages.want(PAGE_ROWS, 5);
    expect([asked.length, pages.row(PAGE_ROWS + 9)?.row, pages.row(3)]).toEqual([2, PAGE_ROWS + 9, null]);
  });

  it('are given up when one scrolls on', () => {
    const { pages, asked } = paging(PAGE_ROWS * 100);
    pages.want(0, 20);
    pages.want(PAGE_ROWS * 50, 20);
    expect([asked[0]?.signal.aborted, asked[1]?.signal.aborted]).toEqual([true, false]);
  });

  it('are not asked for again after a failure until one says so', async () => {
    const { pages, asked, changes } = paging(10);
    pages.want(0, 10);
    asked[0]?.fail(plainError('file.io', 'Reading failed.'));
    await new Promise((resolve) => setTimeout(resolve));
    pages.want(0, 10);
    expect([asked.length, pages.problem?.message, changes()]).toEqual([1, 'Reading failed.', 1]);
    pages.retry();
    pages.want(0, 10);
    expect([asked.length, pages.problem]).toEqual([2, null]);
  });
});
