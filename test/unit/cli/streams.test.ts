import { expect, test } from 'vitest';
import { visible } from '../../../src/cli/streams';

test('what a terminal would obey is made visible; lines, tabs and umlauts stay', () => {
  expect(visible('a\u001b[31mred\u0007\u009b\0\tb\r\nü☃')).toBe('a\\x1b[31mred\\x07\\x9b\\x00\tb\r\nü☃');
});
