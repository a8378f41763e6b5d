import { describe, expect, it } from 'vitest';

import { Qcow2Builder } from '../../../src/engine/formats/qcow2/builder';
import { dumpStructure, parseDumpTarget } from '../../../src/engine/inspect/dump';
import type { Inspector } from '../../../src/engine/inspect/inspector';
import { bigEndian, inspect, sourceOf } from './memory';

function builder(): Qcow2Builder {
  return new Qcow2Builder({ size: 10_000_384, clusterBits: 12 })
    .write(0, Uint8Array.of(1))
    .snapshot({ id: '1', name: 'first\u001b[0m', dateSec: 1767603600, uptimeSec: 3723 })
    .bitmap({
      name: 'fine',
      granularityBits: 9,
      flags: 0,
      dirty: [
        { offset: 0, length: 513 },
        { offset: 10_000_000, length: 1 },
      ],
    })
    .bitmap({ name: 'coarse', granularityBits: 20, flags: 2, dirty: [{ offset: 10_000_383, length: 1 }] })
    .bitmap({ name: 'unsaved', granularityBits: 16, flags: 1, dirty: [] });
}

describe('snapshots and bitmaps', () => {
  const image = builder().build();

  it('are decoded field by field, names and extra data included', async () => {
    const { snapshots, bitmaps, notices } = await inspect(sourceOf(image)).snapshotsAndBitmaps();
    expect(notices).toEqual([]);
    expect(snapshots.map(({ summary }) => summary)).toEqual(["1 'first\\u{1b}[0m', 2026-01-05 09:00:00 UTC, disk 9.54 MiB"]);
    const values = Object.fromEntries(snapshots[0]!.structure.fields.map(({ name, value }) => [name, value]));
    expect(values).toMatchObject({
      date_sec: '2026-01-05 09:00:00 UTC (1767603600)',
      vm_clock_nsec: '3723000000000 (01:02:03.000)',
      disk_size: '9.54 MiB (10000384 bytes)',
      icount: '18446744073709551615 (not recorded)',
      'unique id': '1',
      name: 'first\\u{1b}[0m',
    });
    const flags = bitmaps.map(({ structure }) => structure.fields.find(({ name }) => name === 'flags')?.value);
    expect(flags).toEqual(['0x0', '0x2 (auto)', '0x1 (in_use)']);
  });

  it('count marked bytes, the last bit only as far as the disk goes', async () => {
    const { bitmaps } = await inspect(sourceOf(image)).snapshotsAndBitmaps();
    // The disk is no multiple of the coarse granularity: there the last bit stands for less than the others.
    expect(bitmaps.map(({ name, markedBytes }) => [name, markedBytes])).toEqual([
      ['fine', 1024 + 512],
      ['coarse', 10_000_384 % 2 ** 20],
      ['unsaved', null],
    ]);
  });

  it('do not count what leads nowhere', async () => {
    const [fine] = (await inspect(sourceOf(image)).snapshotsAndBitmaps()).bitmaps;
    const table = fine!.structure.fields.find(({ name }) => name === 'bitmap_table_offset')!;
    const broken = inspect(sourceOf(image, [{ hostOffset: Number(table.value), bytes: bigEndian(2n ** 40n, 8) }]));
    expect((await broken.snapshotsAndBitmaps()).bitmaps[0]?.markedBytes).toBeNull();
    const ones = inspect(sourceOf(image, [{ hostOffset: Number(table.value), bytes: bigEndian(1, 8) }]));
    expect((await ones.snapshotsAndBitmaps()).bitmaps[0]?.markedBytes).toBe(10_000_384);
  });

  it('say when QEMU ignores the bitmaps', async () => {
    const { notices } = await inspect(sourceOf(image, [{ hostOffset: 95, bytes: Uint8Array.of(0) }])).snapshotsAndBitmaps();
    expect(notices.map(({ message }) => message)).toEqual([
      'The bitmaps feature bit is not set: a program that knows no bitmaps wrote the image, and QEMU ignores the bitmaps.',
    ]);
  });
});

async function dump(inspector: Inspector, what: string, json = false, all = false): Promise<string> {
  let text = '';
  for await (const piece of dumpStructure(inspector, parseDumpTarget(what), { json, all })) {
    text += piece;
  }
  return text;
}

describe('dumping', () => {
  const inspector = inspect(sourceOf(builder().build()));

  it('prints structures as text', async () => {
    const lines = (await dump(inspector, 'header')).split('\n');
    expect(lines[0]).toBe('qcow2 header at 0x0, 112 bytes');
    expect(lines[5]).toBe('  0x14       cluster_bits               0000000c           12 (cluster size 4 KiB)');
    expect(await dump(inspector, 'snapshots')).toContain('name');
  });

  it('prints structures as JSON', async () => {
    const [header] = JSON.parse(await dump(inspector, 'header', true)) as {
      title: string;
      fields: { name: string; offset: number; raw: string }[];
    }[];
    expect(header?.title).toBe('qcow2 header');
    expect(header?.fields[1]).toEqual({ name: 'version', offset: 4, length: 4, raw: '00000003', value: '3 (compat 1.1)' });
  });

  it('prints the used rows of tables, or all', async () => {
    expect((await dump(inspector, 'l2')).split('\n').slice(2)).toEqual([expect.stringMatching(/^0 .* data /), '']);
    const rows = JSON.parse(await dump(inspector, 'l2', true)) as { entry: number; kind: string }[];
    expect(rows.map(({ entry, kind }) => [entry, kind])).toEqual([[0, 'data']]);
    const part = JSON.parse(await dump(inspector, 'l2:1', true, true)) as { entry: number }[];
    expect([part[0]?.entry, part.length]).toEqual([512, 512]);
    expect(JSON.parse(await dump(inspector, 'l2:2', true))).toEqual([]);
    expect((JSON.parse(await dump(inspector, 'refcounts', true)) as unknown[]).length).toBeGreaterThan(10);
    expect(await dump(inspector, 'bitmap-table:1')).toContain("Bitmap table of 'coarse'");
  });

  it('refuses what is not there', async () => {
    expect(() => parseDumpTarget('nonsense\u001b')).toThrow("'nonsense\\u{1b}' names no structure");
    expect(() => parseDumpTarget('header:1')).toThrow("'header' takes no index.");
    await expect(dump(inspector, 'luks')).rejects.toMatchObject({ code: 'request.invalid' });
    await expect(dump(inspector, 'l2:99')).rejects.toMatchObject({ code: 'request.invalid' });
    await expect(dump(inspector, 'bitmap-table:9')).rejects.toMatchObject({ code: 'request.invalid' });
  });
});
