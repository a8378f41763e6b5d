import { describe, expect, it } from 'vitest';
import { History } from '../../../webview/state/history';
import { restored, START } from '../../../webview/state/kept';

describe('the history', () => {
  it('goes back and forward over what was visited', () => {
    const history = new History<string>();
    for (const place of ['a', 'b', 'c']) {
      history.push(place);
    }
    expect([history.back(), history.back(), history.back(), history.forward(), history.current]).toEqual(['b', 'a', null, 'b', 'b']);
  });

  it('forgets what was ahead when one goes elsewhere', () => {
    const history = new History<string>();
    for (const place of ['a', 'b', 'c']) {
      history.push(place);
    }
    history.back();
    history.back();
    history.push('d');
    expect([history.canGoForward, history.back(), history.canGoBack]).toEqual([false, 'a', false]);
  });

  it('does not count going where one is', () => {
    const history = new History<{ readonly tab: string }>();
    history.push({ tab: 'map' });
    history.push({ tab: 'map' });
    expect(history.canGoBack).toBe(false);
  });

  it('keeps no more than its limit, and the newest', () => {
    const history = new History<number>(3);
    for (let place = 0; place < 10; place++) {
      history.push(place);
    }
    expect([history.back(), history.back(), history.back()]).toEqual([8, 7, null]);
  });
});

describe('saved state', () => {
  it('comes back as it was saved', () => {
    const kept = {
      ...START,
      tab: 'hex',
      view: { kind: 'snapshot', index: 2 },
      space: 'host',
      inspected: { space: 'guest', offset: 65536 },
      expanded: ['header'],
      map: { space: 'host', mode: 'layer', order: 'rowMajor', only: ['data'], viewport: { centerX: 1.5, centerY: 2, scale: 0.25 } },
      table: { key: 'refcounts', row: 12 },
      hexOffset: 4096,
    };
    expect(restored(JSON.parse(JSON.stringify(kept)))).toEqual(kept);
  });

  it('is taken only as far as it makes sense', () => {
    const nonsense = [
      undefined,
      null,
      'text',
      { tab: 'gone' },
      { view: { kind: 'snapshot', index: -1 }, hexOffset: 1.5, map: { viewport: { centerX: Number.NaN } }, table: { key: 7 } },
      { inspected: { space: 'nowhere', offset: 1 }, expanded: 'header', map: 'map' },
    ];
    expect(nonsense.map(restored)).toEqual(nonsense.map(() => START));
  });
});
