import { describe, expect, test } from 'vitest';
import { protocolOf, resolveName } from '../../../src/engine/gate/filename';

const backing = { imageFilename: '/images/overlay.qcow2', role: 'backing', currentFolder: '/run' } as const;

describe('protocol prefixes', () => {
  test.each([
    ['base.qcow2', null],
    ['/a:b/base', null],
    ['sub/a:b', null],
    ['file:base', 'file'],
    ['nbd:localhost:10809', 'nbd'],
    ['nbd+unix:///disk?socket=/run/x', 'nbd+unix'],
    ['http://example.org/disk', 'http'],
    ['json:{"driver":"raw"}', 'json'],
    ['a:b', 'a'],
    [':a', ''],
    ['', null],
  ])('%j: %j', (name, protocol) => {
    expect(protocolOf(name)).toBe(protocol);
  });
});

describe('a backing file', () => {
  test.each([
    ['base', '/images/base', '/images/base'],
    ['sub/base', '/images/sub/base', '/images/sub/base'],
    ['../../x/base', '/images/../../x/base', '/images/x/base'],
    ['./a//base', '/images/./a//base', '/images/a/base'],
    ['/abs/base', '/abs/base', '/abs/base'],
    ['base\nname\u001b[31m', '/images/base\nname\u001b[31m', '/images/base\nname\u001b[31m'],
    ['base\0hidden', '/images/base', '/images/base'],
    ['file:base', 'file:base', '/run/base'],
    ['file:/abs/base', 'file:/abs/base', '/abs/base'],
    ['file:///abs/base', 'file:///abs/base', '/abs/base'],
  ])('%j', (name, filename, path) => {
    expect(resolveName(name, backing)).toMatchObject({ filename, path, protocol: null });
  });

  test('beside an overlay that was itself named relatively', () => {
    const resolved = resolveName('base', { ...backing, imageFilename: 'sub/overlay' });
    expect(resolved).toMatchObject({ filename: 'sub/base', path: `${process.cwd()}/sub/base` });
    expect(resolveName('base', { ...backing, imageFilename: 'overlay' }).filename).toBe('base');
  });

  test.each([
    ['nbd:localhost:10809', 'nbd'],
    ['http://example.org/x', 'http'],
    ['fat:/etc', 'fat'],
    ['host_device:/dev/sda', 'host_device'],
    ['weird:thing', 'weird'],
  ])('%j is no local file', (name, protocol) => {
    expect(resolveName(name, backing)).toEqual({ filename: name, path: null, realPath: null, protocol });
  });
});

describe('other names', () => {
  test('a data file is relative to the current folder, or to the image where there is none', () => {
    const context = { imageFilename: '/images/disk.qcow2', role: 'data-file' } as const;
    expect(resolveName('disk.raw', { ...context, currentFolder: '/run' }).path).toBe('/run/disk.raw');
    expect(resolveName('disk.raw', context).path).toBe('/images/disk.raw');
    expect(resolveName('/abs/disk.raw', context).path).toBe('/abs/disk.raw');
  });

  test('an extent is relative to its descriptor', () => {
    expect(resolveName('disk-flat.vmdk', { imageFilename: '/images/disk.vmdk', role: 'extent', currentFolder: '/run' }).path).toBe(
      '/images/disk-flat.vmdk',
    );
  });
});

describe('json: names', () => {
  test.each([
    ['{"driver":"file","filename":"/x"}', '/x'],
    ['{"driver":"qcow2","file":{"driver":"file","filename":"/x"}}', '/x'],
    ['{"driver":"qcow2","file.driver":"file","file.filename":"/x"}', '/x'],
    ['{"file.filename":"x"}', '/run/x'],
    ['{"filename":"file:x"}', '/run/file:x'],
    ['{"driver":"raw","offset":512,"file":{"driver":"file","filename":"/x"}}', null],
    ['{"driver":"nbd","host":"example.org"}', null],
    ['{"driver":"qcow2","file":{"driver":"http","url":"http://x"}}', null],
    ['{"driver":"qcow2","file":{"driver":"http","filename":"/x"}}', null],
    ['{"driver":"file","filename":"a\\u0000b"}', null],
    ['{"driver":"blkdebug","image":{"driver":"file","filename":"/x"}}', null],
    ['{"driver":"file"', null],
    ['[]', null],
    ['"x"', null],
    ['{"__proto__":{"filename":"/x"}}', null],
  ])('%s', (json, path) => {
    expect(resolveName(`json:${json}`, backing)).toMatchObject({ path, protocol: 'json' });
  });

  test('nested without end', () => {
    const deep = '{"file":'.repeat(50_000) + '1' + '}'.repeat(50_000);
    expect(resolveName(`json:${deep}`, backing).path).toBeNull();
    const dotted = `json:{"${'file.'.repeat(20_000)}filename":"/x"}`;
    expect(resolveName(dotted, backing).path).toBeNull();
  });
});
