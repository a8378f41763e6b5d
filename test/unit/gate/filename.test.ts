import { describe, expect, test } from 'vitest';
import { EngineError } from '../../../src/engine/errors';
import { protocolOf, resolveName } from '../../../src/engine/gate/filename';
import { remoteNameOf } from '../../../src/engine/gate/remoteName';

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
    ['nbd:localhost', 'nbd'],
    ['http:/x', 'http'],
    ['ssh://example.org/x', 'ssh'],
    ['fat:/etc', 'fat'],
    ['host_device:/dev/sda', 'host_device'],
    ['weird:thing', 'weird'],
  ])('%j is no local file', (name, protocol) => {
    expect(resolveName(name, backing)).toEqual({ filename: name, path: null, realPath: null, protocol, remote: null });
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

describe('names of servers', () => {
  test.each([
    ['http://example.org/a b.qcow2', 'http://example.org/a b.qcow2', { protocol: 'http' }],
    ['https://[::1]:8080/x?y=z', 'https://[::1]:8080/x?y=z', { protocol: 'http' }],
    ['nbd://host', 'nbd://host:10809', { exportName: '', tls: false, socket: { type: 'inet', host: 'host', port: 10809 } }],
    ['nbd://host:1/a/b', 'nbd://host:1/a/b', { exportName: 'a/b', socket: { port: 1 } }],
    ['nbd+tcp://[::1]:2/%20x', 'nbd://[::1]:2/ x', { exportName: ' x', socket: { host: '::1' } }],
    ['nbds://host/x', 'nbds://host:10809/x', { tls: true }],
    ['nbd+unix:///x?socket=/a%20b', 'nbd+unix:///x?socket=/a b', { socket: { type: 'unix', path: '/a b' } }],
    ['nbd:host:10810', 'nbd://host:10810', { exportName: '' }],
    ['nbd:[::1]:10810:exportname=a:b', 'nbd://[::1]:10810/a:b', { exportName: 'a:b' }],
    ['nbd:unix:/s:exportname=x', 'nbd+unix:///x?socket=/s', { exportName: 'x', socket: { path: '/s' } }],
  ])('%s', (name, filename, address) => {
    expect(resolveName(name, backing)).toMatchObject({ filename: name, path: null, remote: { filename, recorded: name, address } });
  });

  test('a relative name lies beside its image on a web server, and leads nowhere from an export', () => {
    const beside = resolveName('base.qcow2', { ...backing, imageFilename: 'https://host/images/top.qcow2' });
    expect(beside).toMatchObject({ filename: 'https://host/images/base.qcow2', path: null, remote: { protocol: 'https' } });
    const nowhere = resolveName('base.qcow2', { ...backing, imageFilename: 'nbd+unix:///x?socket=/run/s' });
    expect(nowhere).toMatchObject({ path: null, realPath: null, remote: null });
    expect(resolveName('/base.qcow2', { ...backing, imageFilename: 'https://host/top.qcow2' }).path).toBe('/base.qcow2');
  });

  test.each([
    'http:///x',
    'http://',
    'nbd:',
    'nbd:host:x',
    'nbd:host:70000',
    'nbd:unix:',
    'nbd://',
    'nbd://host:0/x',
    'nbd://host/x?socket=y',
    'nbd+unix:///x',
    'nbd+unix://host/x?socket=y',
    'nbd+unix:///%zz?socket=y',
    'nbd+unix:///%00?socket=y',
    `nbd://host/${'x'.repeat(5000)}`,
  ])('%j is none', (name) => {
    expect(resolveName(name, backing).remote).toBeNull();
    expect(() => remoteNameOf(name)).toThrow(EngineError);
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
    ['{"driver":"nbd","host":"example.org","unknown":1}', null],
    ['{"driver":"http","url":"https://x"}', null],
    ['{"driver":"qcow2","offset":1,"file":{"driver":"http","url":"http://x"}}', null],
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

  test.each([
    ['{"driver":"nbd","host":"example.org"}', 'nbd', 'nbd://example.org:10809'],
    ['{"driver":"qcow2","file":{"driver":"http","url":"http://x/y"}}', 'http', 'http://x/y'],
    ['{"file.driver":"nbd","file.server.type":"unix","file.server.path":"/s","file.export":"e"}', 'nbd+unix', 'nbd+unix:///e?socket=/s'],
    ['{"file":{"driver":"nbd","filename":"nbd+unix:///?socket=/s"}}', 'nbd+unix', 'nbd+unix://?socket=/s'],
    ['{"driver":"https","url":"https://x/","sslverify":"off"}', 'https', 'json:{"driver":"https","url":"https://x/","sslverify":"off"}'],
  ])('%s leads to a server', (json, protocol, filename) => {
    const name = `json:${json}`;
    expect(resolveName(name, backing)).toMatchObject({
      filename: name,
      path: null,
      protocol,
      remote: { filename, recorded: expect.any(String) as string },
    });
  });

  test('nested without end', () => {
    const deep = '{"file":'.repeat(50_000) + '1' + '}'.repeat(50_000);
    expect(resolveName(`json:${deep}`, backing).path).toBeNull();
    const dotted = `json:{"${'file.'.repeat(20_000)}filename":"/x"}`;
    expect(resolveName(dotted, backing).path).toBeNull();
  });
});
