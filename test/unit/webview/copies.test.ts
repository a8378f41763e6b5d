import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { StructureView } from '../../../src/protocol/inspect';
import { asJson, columns, mapCommand, readCommand, structureAsHex, structureAsText } from '../../../webview/format/copies';

const HEADER: StructureView = {
  id: 'header',
  title: 'qcow2 header',
  hostOffset: 0,
  length: 112,
  problems: [],
  fields: [
    {
      name: 'magic',
      hostOffset: 0,
      length: 4,
      rawHex: '514649fb',
      value: '0x514649fb',
      meaning: 'Marks a qcow2 image.',
      place: null,
      bits: [],
      problem: null,
    },
    {
      name: 'incompatible_features',
      hostOffset: 72,
      length: 8,
      rawHex: '0000000000000021',
      value: '0x21',
      meaning: 'Features.',
      place: null,
      bits: [
        { bit: 0, name: 'dirty', set: true, known: true, meaning: '' },
        { bit: 1, name: 'corrupt', set: false, known: true, meaning: '' },
      ],
      problem: 'Bit 5 is unknown.',
    },
  ],
};

describe('what is copied of a structure', () => {
  it('is a table of its fields as text, with set bits and problems', () => {
    expect(structureAsText(HEADER)).toBe(
      [
        'qcow2 header at 0x0, 112 bytes',
        '0x0   magic                  514649fb          0x514649fb',
        '0x48  incompatible_features  0000000000000021  0x21',
        '                                               bit 0: dirty',
        '                                               ! Bit 5 is unknown.',
        '',
      ].join('\n'),
    );
  });

  it('is its bytes as hex and itself as JSON', () => {
    expect(structureAsHex(HEADER)).toBe('51 46 49 fb\n00 00 00 00 00 00 00 21\n');
    expect(JSON.parse(asJson(HEADER))).toEqual(HEADER);
    expect(asJson({ bytes: Uint8Array.of(1, 2) }).replace(/\s/g, '')).toBe('{"bytes":[1,2]}');
  });
});

describe('copied commands', () => {
  it('mean what they say to a shell, whatever the file is called', () => {
    const words = (command: string) =>
      execFileSync('/bin/sh', ['-c', `set -- ${command}; for word; do printf '%s\\n' "$word"; done`], { encoding: 'utf8' }).split('\n');
    const path = "/images/it's $(here)/a b.qcow2";
    expect(words(readCommand(path, 65536, 8))).toEqual(['qemu-io', '-r', '-f', 'raw', '-c', 'read -v 0x10000 8', path, '']);
    expect(words(mapCommand(path, 0, 65536)).slice(-2)).toEqual([path, '']);
  });
});

describe('columns', () => {
  it('are as wide as their widest cell, without trailing blanks', () => {
    expect(columns([['a', 'bb', 'c'], ['aaa', 'b', 'cc'], ['x']])).toBe('a    bb  c\naaa  b   cc\nx');
  });
});
