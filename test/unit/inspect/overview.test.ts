import { describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import type { FieldView, StructureView } from '../../../src/protocol/inspect';
import { bigEndian, chainOf, inspect, sourceOf, SparseSource } from './memory';
import { Inspector } from '../../../src/engine/inspect/inspector';

function field(structures: readonly StructureView[], id: string, name: string): FieldView {
  const found = structures.find((structure) => structure.id === id)?.fields.find((candidate) => candidate.name === name);
  if (!found) {
    throw new Error(`no field ${id}.${name}`);
  }
  return found;
}

function small(options: Partial<ConstructorParameters<typeof Qcow2Builder>[0]> = {}): Qcow2Builder {
  return new Qcow2Builder({ size: 2 ** 20, clusterBits: 12, ...options }).write(0, Uint8Array.of(1, 2, 3));
}

describe('the overview of a qcow2 image', () => {
  it('decodes every header field with its bytes, meaning and link', () => {
    const image = small({ backing: { name: 'base.qcow2', format: 'qcow2' } }).build();
    const { structures } = inspect(sourceOf(image)).overview();
    expect(structures.map(({ id, title }) => `${id}: ${title}`)).toEqual([
      'header: qcow2 header',
      'extension.0: backing file format name',
      'extension.1: end of header extensions',
      'backingFileName: backing file name',
    ]);
    expect(field(structures, 'header', 'cluster_bits')).toEqual({
      name: 'cluster_bits',
      hostOffset: 20,
      length: 4,
      rawHex: '0000000c',
      value: '12 (cluster size 4 KiB)',
      meaning: 'Cluster size is 2 to this power: 9 (512 B) to 21 (2 MiB).',
      place: null,
      bits: [],
      problem: null,
    });
    const { l1TableOffset } = image.layout;
    expect(field(structures, 'header', 'l1_table_offset')).toMatchObject({
      value: `0x${l1TableOffset.toString(16)}`,
      place: { kind: 'host', hostOffset: l1TableOffset, length: 8 },
    });
    expect(field(structures, 'header', 'size').value).toBe('1 MiB (1048576 bytes)');
    expect(field(structures, 'header', 'snapshots_offset').place).toBeNull();
    expect(field(structures, 'extension.0', 'backing_format').value).toBe('qcow2');
    expect(field(structures, 'backingFileName', 'backing_file_name')).toMatchObject({
      value: 'base.qcow2',
      rawHex: '626173652e71636f7732',
    });
  });

  it('shows a version 2 header to its end and no further', () => {
    const { structures } = inspect(sourceOf(small({ version: 2 }).build())).overview();
    expect(structures[0]?.fields.at(-1)?.name).toBe('snapshots_offset');
    expect(structures[0]?.length).toBe(72);
  });

  it('names feature bits, and marks unknown ones with what the image itself calls them', () => {
    const names = new Uint8Array(2 * 48);
    names.set([0, 17]);
    names.set(new TextEncoder().encode('shiny\u001bthing'), 2);
    names.set([0, 40], 48);
    names.set(new TextEncoder().encode('mirrored'), 50);
    const table = [...bigEndian(0x6803f857, 4), ...bigEndian(names.length, 4), ...names, ...bigEndian(0, 8)];
    const source = sourceOf(small().build(), [
      { hostOffset: 72, bytes: bigEndian((1n << 17n) | (1n << 40n) | 1n, 8) },
      { hostOffset: 112, bytes: Uint8Array.from(table) },
    ]);
    const { structures, notices } = inspect(source).overview();
    const features = field(structures, 'header', 'incompatible_features');
    expect(features.bits.filter(({ set }) => set).map(({ bit, name, known }) => ({ bit, name, known }))).toEqual([
      { bit: 0, name: 'dirty', known: true },
      { bit: 17, name: 'shiny\\u{1b}thing', known: false },
      { bit: 40, name: 'mirrored', known: false },
    ]);
    expect(features.problem).toBe('Incompatible features are set that are unknown here: bit 17, mirrored (bit 40).');
    expect(field(structures, 'extension.0', 'incompatible_features bit 17').value).toBe('shiny\\u{1b}thing');
    expect(notices.map(({ severity }) => severity)).toEqual(['error', 'warning']);
    expect(notices[0]?.message).toMatch(/^No driver opens this image: qcow2 header at offset 0x48: Incompatible features are set/);
  });

  it('keeps unknown extensions and unknown header fields in sight', () => {
    const extension = [...bigEndian(0x12345678, 4), ...bigEndian(5, 4), 1, 2, 3, 4, 5, 0, 0, 0, ...bigEndian(0, 8)];
    const source = sourceOf(small().build(), [
      { hostOffset: 100, bytes: bigEndian(120, 4) },
      { hostOffset: 112, bytes: Uint8Array.from([9, 8, 7, 6, 5, 4, 3, 2, ...extension]) },
    ]);
    const { structures } = inspect(source).overview();
    expect(field(structures, 'header', 'unknown fields')).toMatchObject({ hostOffset: 112, value: '0908070605040302' });
    expect(structures[1]).toMatchObject({ title: 'unknown extension', hostOffset: 120 });
    expect(field(structures, 'extension.0', 'data')).toMatchObject({ hostOffset: 128, rawHex: '0102030405' });
  });

  it("gives qemu-img's facts with the places that say so", () => {
    const source = sourceOf(small({ lazyRefcounts: true, backing: { name: 'a\u0007b', format: null } }).build());
    const { facts, notices } = inspect(source).overview();
    const values = Object.fromEntries(facts.map(({ name, value }) => [name, value]));
    expect(values).toMatchObject({
      'file format': 'qcow2',
      'virtual size': '1 MiB (1048576 bytes)',
      cluster_size: '4096',
      'backing file': 'a\\u{7}b',
      compat: '1.1',
      'compression type': 'zlib',
      'lazy refcounts': 'true',
      'refcount bits': '16',
      corrupt: 'false',
      'extended l2': 'false',
    });
    expect(facts.find(({ name }) => name === 'lazy refcounts')?.place).toEqual({ kind: 'host', hostOffset: 80, length: 8 });
    expect(notices.map(({ message }) => message)).toEqual([
      'The backing file format is not recorded; whoever opens the image has to guess it.',
    ]);
  });

  it('tells of links that are not open, of users, and of damage', () => {
    const source = sourceOf(small().build(), [{ hostOffset: 72, bytes: bigEndian(3, 8) }]);
    const chain = chainOf([source], ['qcow2']);
    const usage = { known: true, inUse: true, writing: true, holders: [{ pid: 42, command: 'qemu\u001b' }] };
    const [active] = chain.links;
    const links = [
      { ...active!, image: { ...active!.image!, usage } },
      { recordedName: 'gone', path: '/gone', role: 'backing', state: { kind: 'missing' }, image: null },
      { recordedName: 'nbd://x', path: null, role: 'backing', state: { kind: 'refused', reason: 'network' }, image: null },
      { recordedName: 'me', path: '/me', role: 'backing', state: { kind: 'loop' }, image: null },
      { recordedName: 'bad', path: '/bad', role: 'data-file', state: { kind: 'unreadable', message: 'EIO' }, image: null },
    ] as const;
    const { notices } = new Inspector({ ...chain, links }).overview();
    expect(notices.map(({ severity, message }) => `${severity}: ${message}`)).toEqual([
      expect.stringMatching(/^warning: In use by qemu\\u\{1b\} \(process 42\), which may write/),
      expect.stringMatching(/^error: The image is marked corrupt/),
      expect.stringMatching(/^warning: The image was not closed cleanly/),
      "error: The backing file 'gone' does not exist; what only it holds cannot be shown.",
      "warning: The backing file 'nbd://x' was not opened: it is reached over the network and nobody has allowed it.",
      expect.stringMatching(/^error: The backing file 'me' is already part of the chain: the chain loops/),
      "error: The external data file 'bad' cannot be read: EIO",
    ]);
  });

  it('reads no table: an image with a terabyte of metadata costs its first cluster', () => {
    const image = new Qcow2Builder({ size: 2 ** 40 }).build();
    const source = sourceOf(image, [], 2 ** 40);
    const inspector = inspect(source);
    source.bytesRead = 0;
    inspector.overview();
    expect(source.bytesRead).toBeLessThan(65536);
  });

  it('shows what a truncated header has', () => {
    const source = sourceOf(small().build(), [], 30);
    const { structures, notices } = inspect(source).overview();
    expect(field(structures, 'header', 'cluster_bits').value).toBe('12 (cluster size 4 KiB)');
    expect(field(structures, 'header', 'size')).toMatchObject({ rawHex: '000000000010', value: '(past the end of the file)' });
    expect(notices[0]).toMatchObject({ severity: 'error' });
  });
});

describe('the overview of other formats', () => {
  it('decodes a QED header', () => {
    const header = new DataView(new ArrayBuffer(64));
    header.setUint32(0, 0x00444551, true);
    header.setUint32(4, 65536, true);
    header.setUint32(8, 4, true);
    header.setUint32(12, 1, true);
    header.setBigUint64(16, 7n, true);
    header.setBigUint64(40, 65536n, true);
    header.setBigUint64(48, 2n ** 30n, true);
    header.setUint32(56, 64, true);
    header.setUint32(60, 4, true);
    const pieces = [
      { hostOffset: 0, bytes: new Uint8Array(header.buffer) },
      { hostOffset: 64, bytes: new TextEncoder().encode('base') },
    ];
    const { structures, facts, has, notices } = inspect(new SparseSource(pieces, 65536 * 6), 'qed').overview();
    expect(field(structures, 'header', 'table_size').value).toBe('4 (clusters, 32768 entries)');
    expect(field(structures, 'backingFileName', 'backing_filename').value).toBe('base');
    expect(facts.map(({ name, value }) => `${name}: ${value}`).slice(2)).toEqual([
      'virtual size: 1 GiB (1073741824 bytes)',
      'disk size: 68 B',
      'cluster_size: 65536',
      'cleanly shut down: no',
      'backing file: base',
      'backing file format: raw',
    ]);
    expect(has).toEqual({ tables: true, guestMap: true, hostMap: true, check: true, snapshots: false });
    expect(notices.map(({ message }) => message)).toEqual(['The image was not closed cleanly (need check); check it before it is used.']);
  });

  it('reads a VMDK descriptor line by line', async () => {
    const text =
      '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentFileNameHint="../x\u0007.vmdk"\nRW 2048 FLAT "a-flat.vmdk" 0\nddb.x = "y"\n';
    const bytes = new TextEncoder().encode(text);
    const inspector = inspect(new SparseSource([{ hostOffset: 0, bytes }], bytes.length + 8), 'vmdk');
    const { structures } = inspector.overview();
    expect((await inspector.hex(0, 4096)).regions.map(({ length, label }) => [length, label])).toEqual([
      [bytes.length, 'VMDK descriptor'],
      [8, 'VMDK data is not looked into'],
    ]);
    expect(structures[0]?.fields.map(({ name, value, hostOffset }) => [name, value, hostOffset])).toEqual([
      ['version', '1', text.indexOf('version')],
      ['CID', 'fffffffe', text.indexOf('CID')],
      ['parentFileNameHint', '../x\\u{7}.vmdk', text.indexOf('parentFile')],
      ['extent', 'RW 2048 FLAT "a-flat.vmdk" 0', text.indexOf('RW')],
      ['ddb.x', 'y', text.indexOf('ddb')],
    ]);
  });

  it('has little to say about raw', () => {
    const { structures, facts, has } = inspect(new SparseSource([], 1000), 'raw').overview();
    expect(structures).toEqual([]);
    expect(facts.map(({ name }) => name)).toEqual(['image', 'file format', 'virtual size', 'disk size']);
    expect(has).toEqual({ tables: false, guestMap: true, hostMap: false, check: false, snapshots: false });
  });
});
