import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { StateSaver } from '../../../webview/state/state-saver';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('a change is saved at once, and of many in a row the last', () => {
  const saved: number[] = [];
  const saver = new StateSaver<number>((state) => saved.push(state));
  saver.keep(1);
  expect(saved).toEqual([1]);
  saver.keep(2);
  saver.keep(3);
  expect(saved).toEqual([1]);
  vi.advanceTimersByTime(200);
  expect(saved).toEqual([1, 3]);
  vi.advanceTimersByTime(1000);
  saver.keep(4);
  expect(saved).toEqual([1, 3, 4]);
});
