import { describe, expect, it } from 'vitest';
import { cursorAfterKey, firstOf, isSelected, lengthOf, movedTo } from '../../../webview/hex/selection';

const FILE = { width: 16, pageRows: 10, fileSize: 1000 };

describe('selected bytes', () => {
  it('lie between anchor and cursor, whichever comes first', () => {
    const backwards = { anchor: 20, cursor: 10 };
    expect([firstOf(backwards), lengthOf(backwards), isSelected(backwards, 10), isSelected(backwards, 21)]).toEqual([10, 11, true, false]);
  });

  it('are one after a move and grow from the anchor when it extends', () => {
    const one = movedTo({ anchor: 5, cursor: 9 }, 30, false, 1000);
    expect([one, movedTo(one, 40, true, 1000)]).toEqual([
      { anchor: 30, cursor: 30 },
      { anchor: 30, cursor: 40 },
    ]);
  });

  it('stay inside the file', () => {
    const from = { anchor: 0, cursor: 0 };
    expect([movedTo(from, -1, false, 10), movedTo(from, 99, false, 10), movedTo(from, 5, false, 0)].map(({ cursor }) => cursor)).toEqual([
      0, 9, 0,
    ]);
  });
});

describe('keys in the hex view', () => {
  it('move by bytes, rows and pages', () => {
    const keys = ['ArrowLeft', 'ArrowRight', 'ArrowUp', 'ArrowDown', 'PageUp', 'PageDown', 'Home', 'End'];
    expect(keys.map((key) => cursorAfterKey(key, false, 500, FILE))).toEqual([499, 501, 484, 516, 340, 660, 496, 511]);
  });

  it('go to the ends of the file with control', () => {
    expect([cursorAfterKey('Home', true, 500, FILE), cursorAfterKey('End', true, 500, FILE)]).toEqual([0, 999]);
  });

  it('do not leave their column at the edges', () => {
    expect([
      cursorAfterKey('ArrowUp', false, 7, FILE),
      cursorAfterKey('ArrowDown', false, 990, FILE),
      cursorAfterKey('PageUp', false, 23, FILE),
    ]).toEqual([7, 990, 7]);
  });

  it('are left alone when they mean nothing', () => {
    expect(cursorAfterKey('a', false, 500, FILE)).toBeNull();
  });
});
