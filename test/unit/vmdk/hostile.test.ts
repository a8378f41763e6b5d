import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';

import { afterAll, describe, expect, it } from 'vitest';

import { openChain } from '../../../src/engine/chain/openChain';
import { openReader } from '../../../src/engine/chain/chainReader';
import { ACTIVE_VIEW } from '../../../src/engine/chain/layerStatus';
import { EngineError } from '../../../src/engine/errors';
import { followGate } from '../../../src/engine/gate/policies';
import { Inspector } from '../../../src/engine/inspect/inspector';
import { ClassCounter } from '../../../src/engine/map/classSource';
import { GuestMap } from '../../../src/engine/map/guestMap';
import { Pace } from '../../../src/engine/pace';
import { descriptor, LAYOUT, monolithic, SECTOR, sparse } from './files';

/** Nothing that a file says may keep us busy for longer: milliseconds of the processor, whatever else it does. */
const PATIENCE = 8000;

const folder = mkdtempSync(join(tmpdir(), 'chainscope-vmdk-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

/** What became of looking at an image, and of reading all of it. */
interface Outcome {
  /** Code and message of the error that reading ended with; null when all was read. */
  readonly error: string | null;
  readonly notices: readonly string[];
  /** Clusters of the guest map by class. */
  readonly classes: Readonly<Record<string, number>>;
  readonly links: readonly string[];
}

async function lookAt(name: string, bytes: Uint8Array): Promise<Outcome> {
  writeFileSync(join(folder, name), bytes);
  const begin = process.cpuUsage();
  const chain = await openChain(join(folder, name), { gate: followGate('all'), format: 'vmdk' });
  try {
    const inspector = new Inspector(chain);
    const { notices, virtualSize } = inspector.overview();
    for (const offset of [0, Math.max(0, virtualSize - 1)].filter((at) => at < virtualSize)) {
      await inspector.inspectCluster({ space: 'guest', offset, view: ACTIVE_VIEW });
      await inspector.locate(`${offset}`, 'guest');
    }
    const map = new GuestMap(chain, 'state', ACTIVE_VIEW);
    const counter = new ClassCounter();
    await map.scan(0, map.clusters, counter, new Pace());
    let error: string | null = null;
    try {
      const reader = openReader(chain);
      const piece = new Uint8Array(1 << 20);
      for (let at = 0; at < Math.min(reader.size, 64 << 20); at += piece.length) {
        reader.read(at, piece.subarray(0, Math.min(piece.length, reader.size - at)));
      }
    } catch (caught) {
      expect(caught).toBeInstanceOf(EngineError);
      const { code, message } = caught as EngineError;
      expect(message).not.toMatch(/NaN|Infinity|undefined|\n/);
      error = `${code}: ${message.replaceAll(folder, '')}`;
    }
    return {
      error,
      notices: notices.map(({ severity, message }) => `${severity}: ${message}`),
      classes: Object.fromEntries(map.classes.flatMap(({ id }, i) => (counter.counts[i] ? [[id, counter.counts[i]]] : []))),
      links: chain.links.map(({ role, state }) => `${role} ${state.kind}`),
    };
  } finally {
    chain.close();
    const { user, system } = process.cpuUsage(begin);
    expect((user + system) / 1000).toBeLessThan(PATIENCE);
  }
}

const flatData = new Uint8Array(64 * SECTOR).fill(7);
writeFileSync(join(folder, 'flat'), flatData);
writeFileSync(join(folder, 'sparse'), sparse({ capacity: 64 }));
writeFileSync(join(folder, 'nested'), sparse({ capacity: 0, descriptor: descriptor(['RW 64 SPARSE "nested"']) }));

describe('a descriptor that cannot be is one error', () => {
  it.each([
    ['more extents than a disk has', descriptor(Array.from({ length: 5000 }, (_, i) => `RW 1 FLAT "flat" ${i}`)), /more than 4096 extents/],
    ['longer than any', Buffer.concat([descriptor([]), Buffer.alloc(2 << 20, 'RW 1 ZERO\n')]), /longer than 1 MiB/],
    ['one extent past 2^53-1', descriptor(['RW 99999999999999999999999999 FLAT "flat" 0']), /reach past 2\^53-1/],
    [
      'many extents that together are past it',
      descriptor(Array.from({ length: 9 }, (_, i) => `RW 2251799813685247 SPARSE "s${i}"`)),
      /reach past 2\^53-1/,
    ],
    ['a flat extent past 2^53-1 of its file', descriptor(['RW 8 FLAT "flat" 99999999999999999']), /where in its file the data begins/],
    ['a flat extent that begins nowhere', descriptor(['RW 8 FLAT "flat"']), /where in its file the data begins/],
    ['extents that overlap', descriptor(['RW 8 FLAT "flat" 0', 'RW 8 FLAT "flat" 7']), /Two extents hold the same bytes of 'flat'/],
    [
      'a sparse extent that is there twice',
      descriptor(['RW 64 SPARSE "sparse"', 'RW 64 SPARSE "sparse"']),
      /Two extents hold the same bytes/,
    ],
    ['of another size than its extent', descriptor(['RW 80 SPARSE "sparse"']), /holds 32768 bytes of the disk, not 40960/],
    ['a flat file for a sparse extent', descriptor(['RW 64 SPARSE "flat"']), /does not begin with "KDMV"/],
    ['that is its own extent', descriptor(['RW 64 SPARSE "image.vmdk"']), /does not begin with "KDMV"/],
    ['with a descriptor in an extent', descriptor(['RW 64 SPARSE "nested"']), /holds 0 bytes of the disk/],
    ['a kind of extent that nobody knows', descriptor(['RW 8 SESPARSE "flat"']), /Extents of the type 'SESPARSE'/],
    ['a kind of disk that nobody knows', descriptor(['RW 8 FLAT "flat" 0'], { createType: 'fullDevice' }), /create type 'fullDevice'/],
    ['without content ids', descriptor(['RW 8 FLAT "flat" 0'], { head: 'createType="monolithicFlat"\n' }), /content ids/],
    ['without a create type', descriptor(['RW 8 FLAT "flat" 0'], { head: 'CID=1\nparentCID=ffffffff\n' }), /create type/],
  ])('%s', async (_, bytes, message) => {
    const { error, notices } = await lookAt('image.vmdk', bytes);
    expect(error).toMatch(message);
    expect(error).toMatch(/^format\.(invalid|unsupported): /);
    expect(notices).toEqual([expect.stringMatching(message)]);
    expect(notices[0]).toMatch(/^error: No driver opens this image: /);
  });

  it('naming itself as its parent', async () => {
    const head = 'CID=1\nparentCID=1\ncreateType="monolithicFlat"\nparentFileNameHint="image.vmdk"\n';
    const { error, links } = await lookAt('image.vmdk', descriptor(['RW 8 FLAT "flat" 0'], { head }));
    expect(links).toEqual(['active open', 'extent open', 'backing loop']);
    expect(error).toMatch(/^chain\.loop: /);
  });

  it('naming thousands of files that are not there', async () => {
    const lines = Array.from({ length: 4000 }, (_, i) => `RW 4096 SPARSE "s${i}.vmdk"`);
    const { error, notices, links, classes } = await lookAt('image.vmdk', descriptor(lines));
    expect(error).toMatch(/^file\.notFound: Could not open extent: /);
    expect(links.filter((link) => link === 'extent missing')).toHaveLength(4000);
    expect(notices[0]).toBe("error: The extent 's0.vmdk' does not exist; what only it holds cannot be shown.");
    expect(notices).toHaveLength(21);
    expect(Object.keys(classes)).toEqual(['unknown']);
  });
});

describe('a sparse extent that cannot be is one error', () => {
  const header = (offset: number, length: 2 | 4 | 8, value: number | bigint) => ({ capacity: 64, fields: [{ offset, length, value }] });
  it.each([
    ['version', header(4, 4, 4), /Version 4 is not supported/],
    ['capacity past 2^53-1', header(12, 8, 2n ** 45n), /capacity is past 2\^53-1|directory of \d+ entries is too large/],
    ['capacity of all ones', header(12, 8, 2n ** 64n - 1n), /capacity is past 2\^53-1/],
    ['a directory of billions', header(12, 8, 2n ** 43n), /A grain directory of 2147483648 entries is too large/],
    ['no grain size', header(20, 8, 0), /A grain of 0 sectors/],
    ['a grain of terabytes', header(20, 8, 2n ** 33n), /A grain of 8589934592 sectors/],
    ['no grain table', header(44, 4, 0), /A grain table of 0 entries/],
    ['a grain table of billions', header(44, 4, 0xffffffff), /A grain table of 4294967295 entries/],
    ['a directory on the header', header(56, 8, 0), /directory lies on the header/],
    ['a directory past 2^53-1', header(56, 8, 2n ** 63n), /directory lies past 2\^53-1/],
    ['a footer that is not there', header(56, 8, 2n ** 64n - 1n), /footer that the header refers to is not there/],
    ['more metadata than file', header(64, 8, 2n ** 62n), /The file is truncated/],
    ['a table past the end of the file', { capacity: 64, directory: [0xffffffff] }, /grain table at sector 4294967295 lies past the end/],
    ['a grain past the end of the file', { capacity: 64, grains: [0xffffffff] }, /grain at sector 4294967295 lies past the end/],
    [
      'compressed grains of a gigabyte',
      { capacity: 64, grain: 0x200000, fields: [{ offset: 77, length: 2, value: 1 }] } as const,
      /A grain of 2097152 sectors/,
    ],
  ] as const)('%s', async (_, options, message) => {
    const { error } = await lookAt('image.vmdk', monolithic(options));
    expect(error).toMatch(message);
    expect(error).toMatch(/^format\.invalid: /);
  });

  it.each([
    ['nothing', []],
    ['a size past what is there', [0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]],
    ['no stream', [0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 1, 2, 3, 4]],
    ['a stream that goes on past the grain', [0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, ...deflateSync(new Uint8Array(1 << 14))]],
    ['a stream that ends before', [0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, ...deflateSync(new Uint8Array(512))]],
  ])('a compressed grain with %s', async (_, bytes) => {
    const fields = [
      { offset: 8, length: 4, value: 0x30001 },
      { offset: 77, length: 2, value: 1 },
    ] as const;
    const contents = [{ sector: 40, bytes: Uint8Array.from(bytes) }];
    const { error, classes } = await lookAt('image.vmdk', monolithic({ capacity: 64, grains: [40], fields, contents }));
    expect(error).toMatch(/^data\.undecodable: .*compressed grain at offset 20480/);
    expect(classes).toMatchObject({ compressed: 1 });
  });

  it('all tables of a large directory in one is as long as the disk, and no longer', async () => {
    const entries = 16 * (LAYOUT.grains - LAYOUT.directory);
    const directory = Array.from({ length: entries }, () => LAYOUT.grains);
    const options = { capacity: entries * 512 * 8, directory, length: 1024 };
    const { error, classes } = await lookAt('image.vmdk', monolithic(options));
    expect({ error, classes }).toEqual({ error: null, classes: { unallocated: (entries * 512 * 8) / 8 } });
  });

  it('a directory that the file holds only the begin of has nothing behind it', async () => {
    writeFileSync(join(folder, 'image.vmdk'), '');
    const { error, classes } = await lookAt('image.vmdk', monolithic({ capacity: 2n ** 35n, grain: 128, length: 40 }));
    expect({ error, classes }).toEqual({ error: null, classes: { unallocated: 2 ** 28 } });
  });
});

describe('extents of one file, one after the other', () => {
  it('are one link and read where they lie', async () => {
    const file = new Uint8Array(64 * SECTOR).map((_, index) => Math.floor(index / SECTOR));
    writeFileSync(join(folder, 'parts'), file);
    const image = join(folder, 'parts.vmdk');
    writeFileSync(image, descriptor(['RW 8 FLAT "parts" 40', 'RW 16 FLAT "parts" 0'], { createType: 'monolithicFlat' }));
    const chain = await openChain(image, { gate: followGate('all') });
    const bytes = new Uint8Array(24 * SECTOR);
    openReader(chain).read(0, bytes);
    expect(chain.links.map(({ role }) => role)).toEqual(['active', 'extent']);
    expect([...bytes.filter((_, index) => index % SECTOR === 0)]).toEqual([40, 41, 42, 43, 44, 45, 46, 47, ...Array(16).keys()]);
    const found = await new Inspector(chain).inspectCluster({ space: 'guest', offset: 0, view: ACTIVE_VIEW });
    expect(found.host?.path).toBe(join(folder, 'parts'));
    chain.close();
  });

  it('show the holes of their files', async () => {
    const path = join(folder, 'holes');
    writeFileSync(path, new Uint8Array(65536).fill(1));
    truncateSync(path, 8 << 20);
    const { error, classes } = await lookAt('image.vmdk', descriptor([`RW ${(8 << 20) / SECTOR} FLAT "holes" 0`]));
    expect({ error, classes }).toEqual({ error: null, classes: { data: 1, zero: 127 } });
  });
});

describe('the gate', () => {
  it.each([['../outside'], ['/etc/hostname'], ['nbd://host/export'], ['json:{}']])(
    'is asked before an extent %s is opened',
    async (name) => {
      const image = join(folder, 'gated.vmdk');
      writeFileSync(image, descriptor([`RW 8 FLAT "${name}" 0`], { createType: 'monolithicFlat' }));
      const asked: string[] = [];
      const gate = {
        decide: ({ recordedName, role }: { readonly recordedName: string; readonly role: string }) => {
          asked.push(`${role} ${recordedName}`);
          return { allowed: false, reason: 'outsideWorkspace' } as const;
        },
      };
      const chain = await openChain(image, { gate });
      const plain = !name.includes(':');
      expect(asked).toEqual(plain ? [`extent ${name}`] : []);
      expect(chain.links[1]?.state).toEqual({ kind: 'refused', reason: plain ? 'outsideWorkspace' : 'protocol' });
      expect(() => openReader(chain)).toThrow(expect.objectContaining({ code: 'chain.refused' }));
      const [notice] = new Inspector(chain).overview().notices;
      expect(notice?.message).toMatch(/^The extent '.*' was not opened: (it lies outside the workspace|its name uses a protocol)/);
      chain.close();
    },
  );
});
