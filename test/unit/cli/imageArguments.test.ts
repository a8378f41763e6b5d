import { describe, expect, test } from 'vitest';
import { CommandError } from '../../../src/cli/errors';
import { resolveImageArgument, type ImageArgument } from '../../../src/cli/imageArguments';
import { splitWords } from '../../../src/cli/keyValues';

interface Given {
  readonly format?: string;
  readonly imageOpts?: boolean;
  readonly forceShare?: boolean;
}

function resolve(argument: string, given: Given = {}): ImageArgument & { readonly warnings: readonly string[] } {
  const warnings: string[] = [];
  const image = resolveImageArgument(argument, {
    format: given.format ?? null,
    imageOpts: given.imageOpts ?? false,
    forceShare: given.forceShare ?? false,
    warn: (message) => warnings.push(message),
  });
  return { ...image, warnings };
}

test('commas separate words, a doubled one is a comma', () => {
  expect(['a,b', 'a,,b', 'a,,,b', ',', '', 'a,'].map(splitWords)).toEqual([['a', 'b'], ['a,b'], ['a,', 'b'], ['', ''], [''], ['a', '']]);
});

describe('an image is named', () => {
  test.each<[string, string, Given, Partial<ImageArgument>]>([
    ['by its path', 'dir/x.qcow2', {}, { filename: 'dir/x.qcow2', fileName: 'dir/x.qcow2', format: null }],
    ['by its path and format', 'x', { format: 'raw' }, { fileName: 'x', format: 'raw' }],
    ['behind file:', 'file:x', {}, { filename: 'x', fileName: 'x' }],
    ['with a colon behind a slash', './a:b', {}, { fileName: './a:b' }],
    ['by options', 'driver=qcow2,file.filename=x', { imageOpts: true }, { filename: 'x', fileName: 'x', format: 'qcow2' }],
    ['by options of the file alone', 'driver=file,filename=x', { imageOpts: true }, { fileName: 'x', format: 'file' }],
    ['by options without a format', 'file.filename=a,,b', { imageOpts: true }, { fileName: 'a,b', format: null }],
    ['by options that share', 'file.filename=x,force-share=on', { imageOpts: true }, { forceShare: true }],
    ['by JSON', 'json:{"driver":"qed","file":{"driver":"file","filename":"x"}}', {}, { filename: 'x', fileName: 'x', format: 'qed' }],
    ['by flat JSON', 'json:{"driver":"qed","file.filename":"x"}', {}, { fileName: 'x', format: 'qed' }],
    ['by JSON whose format is given beside', 'json:{"file.filename":"x"}', { format: 'raw' }, { fileName: 'x', format: 'raw' }],
    ['on a server', 'nbd:unix:/s', {}, { fileName: 'nbd:unix:/s', filename: 'nbd+unix://?socket=/s' }],
    [
      'on a server, by options',
      'driver=qcow2,file.driver=nbd,file.host=h,file.port=1',
      { imageOpts: true },
      { filename: 'nbd://h:1', format: 'qcow2' },
    ],
    ['on a server, as it is', 'driver=http,url=http://h/x', { imageOpts: true }, { filename: 'http://h/x', format: 'raw' }],
    ['by options with a colon in the name', 'driver=raw,file.driver=file,file.filename=a:b', { imageOpts: true }, { fileName: 'a:b' }],
  ])('%s', (_, argument, given, expected) => {
    expect(resolve(argument, given)).toMatchObject({ argument, ...expected });
  });

  test('options that change what is read make its name a json: name', () => {
    const { filename } = resolve('driver=qcow2,file.filename=x,encrypt.key-secret=s', { imageOpts: true });
    expect(filename).toBe('json:{"encrypt.key-secret": "s", "driver": "qcow2", "file": {"driver": "file", "filename": "x"}}');
  });

  test('a switch without a value is understood and warned of', () => {
    const { warnings } = resolve('file.filename=x,lazy-refcounts,nodiscard', { imageOpts: true });
    expect(warnings).toEqual([
      "short-form boolean option 'lazy-refcounts' deprecated\nPlease use lazy-refcounts=on instead",
      "short-form boolean option 'nodiscard' deprecated\nPlease use discard=off instead",
    ]);
  });
});

describe('a name is refused', () => {
  test.each<[string, Given, string]>([
    ['foo:bar', {}, "Unknown protocol 'foo'"],
    ['ssh://host/x', {}, 'cannot be read by this version'],
    ['nbd://host:x/', {}, 'no port'],
    ['x', { format: 'nonsense' }, "Unknown driver 'nonsense'"],
    ['x', { format: 'vdi' }, "Driver 'vdi' is not available in this version"],
    ['x', { imageOpts: true, format: 'raw' }, 'mutually exclusive'],
    ['x', { imageOpts: true }, "Cannot find device='x'"],
    ['node-name=x', { imageOpts: true }, 'Must specify either driver or file'],
    ['driver=qcow2', { imageOpts: true }, 'A block device must be specified for "file"'],
    ['driver=qcow2,file.filename=x,nonsense=1', { imageOpts: true }, "Block format 'qcow2' does not support the option 'nonsense'"],
    ['driver=qed,file.filename=x,l2-cache-size=1', { imageOpts: true }, "Block format 'qed' does not support the option 'l2-cache-size'"],
    ['file.filename=x,file.nonsense=1', { imageOpts: true }, "Block protocol 'file' does not support the option 'nonsense'"],
    ['driver=raw,offset=512,file.filename=x', { imageOpts: true }, "The option 'offset' is not available in this version"],
    ['driver=qcow2,backing.driver=raw,file.filename=x', { imageOpts: true }, "The option 'backing.driver' is not available"],
    ['driver=raw,file.driver=qcow2,file.file.filename=x', { imageOpts: true }, "A 'qcow2' node below another is not available"],
    ['driver=raw,file.driver=ssh,file.path=x', { imageOpts: true }, "Driver 'ssh' is not available in this version"],
    ['driver=raw,file.driver=nbd,file.export=x', { imageOpts: true }, 'needs a host'],
    ['file.filename=x,force-share=off', { imageOpts: true, forceShare: true }, 'conflicts with image options'],
    ['json:{', {}, 'Could not parse the JSON options'],
    ['json:[1]', {}, 'Invalid JSON object given'],
    ['json:{"file":{"filename":7}}', {}, 'requires a file name'],
  ])('%s (%j)', (argument, given, message) => {
    expect(() => resolve(argument, given)).toThrow(CommandError);
    expect(() => resolve(argument, given)).toThrow(message);
  });
});
