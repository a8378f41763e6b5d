import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compactJson, prettyJson, type JsonValue } from '../../../src/cli/json';

describe('JSON as qemu-img lays it out', () => {
  test('members in its order, unknown ones last, undefined ones not at all', () => {
    expect(prettyJson({ later: 1, format: 'raw', 'virtual-size': 2n ** 63n, filename: 'a', compressed: undefined, early: null })).toBe(
      [
        '{',
        '    "virtual-size": 9223372036854775808,',
        '    "filename": "a",',
        '    "format": "raw",',
        '    "later": 1,',
        '    "early": null',
        '}',
      ].join('\n'),
    );
  });

  test('nested and empty ones', () => {
    expect(prettyJson({ bitmaps: [{ flags: [] }, {}] })).toBe(
      [
        '{',
        '    "bitmaps": [',
        '        {',
        '            "flags": [',
        '            ]',
        '        },',
        '        {',
        '        }',
        '    ]',
        '}',
      ].join('\n'),
    );
  });

  test('on one line', () => {
    expect(compactJson({ file: { filename: 'x', driver: 'file' }, driver: 'qcow2', offset: [1, true] })).toBe(
      '{"driver": "qcow2", "file": {"driver": "file", "filename": "x"}, "offset": [1, true]}',
    );
  });

  test('escapes', () => {
    expect(compactJson('"\\/\b\f\n\r\t\u0001\u001d\u007f\u00e9\u2603\u{1d11e}~ ')).toBe(
      '"\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001D\\u007F\\u00E9\\u2603\\uD834\\uDD1E~ "',
    );
  });

  test('whatever is written reads back equal', () => {
    const value = fc.letrec<{ value: JsonValue }>((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.string({ unit: 'binary' }),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('value')),
        fc.dictionary(
          fc.string().filter((key) => key !== '__proto__'),
          tie('value'),
        ),
      ),
    })).value;
    fc.assert(
      fc.property(value, (written) => {
        expect(JSON.parse(prettyJson(written))).toEqual(written);
        expect(JSON.parse(compactJson(written))).toEqual(written);
      }),
    );
  });
});
