/*
 * Classes of host clusters found slowly and plainly: every entry of every table, one big integer after the other. Shares no code with the
 * engine.
 */

const OFFSET = 0x00fffffffffffe00n;
const CONFLICT = 'conflict';

/** Class ids of all clusters of a qcow2 file. */
export function qcow2HostClasses(file: Uint8Array): string[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const u32 = (at: number) => (at + 4 <= file.length ? view.getUint32(at) : 0);
  const u64 = (at: bigint): bigint => {
    let value = 0n;
    for (let i = 0n; i < 8n; i++) {
      value = (value << 8n) | BigInt(at + i < BigInt(file.length) ? file[Number(at + i)]! : 0);
    }
    return value;
  };
  const u16 = (at: bigint) => u64(at) >> 48n;
  const version = u32(4);
  const clusterBits = u32(20);
  const size = 1n << BigInt(clusterBits);
  const fileEnd = BigInt(file.length);
  const clusters = Number((fileEnd + size - 1n) / size);
  const extended = version === 3 && (u64(72n) & 16n) !== 0n;
  const dataFile = version === 3 && (u64(72n) & 4n) !== 0n;
  const bits = version === 3 ? 1n << BigInt(u32(96)) : 16n;
  const claims = Array.from({ length: clusters }, () => ({ kind: '', count: 0 }));
  const claim = (from: bigint, length: bigint, kind: string) => {
    const end = from + length < fileEnd ? from + length : fileEnd;
    for (let cluster = from / size; length > 0n && cluster * size < end; cluster++) {
      const entry = claims[Number(cluster)];
      if (entry) {
        entry.kind = entry.kind === '' || entry.kind === kind ? kind : CONFLICT;
        entry.count++;
      }
    }
  };
  const walk = (l1: bigint, entries: number) => {
    claim(l1, BigInt(entries) * 8n, 'l1');
    for (let i = 0n; i < BigInt(entries); i++) {
      const table = u64(l1 + i * 8n) & OFFSET;
      if (table === 0n || table % size !== 0n || table >= fileEnd) {
        continue;
      }
      claim(table, size, 'l2');
      for (let at = table; at < table + size; at += extended ? 16n : 8n) {
        const entry = u64(at);
        if ((entry & (1n << 62n)) !== 0n) {
          const x = 62n - (BigInt(clusterBits) - 8n);
          const start = entry & ((1n << x) - 1n);
          const sectors = ((entry & ((1n << 62n) - 1n)) >> x) + 1n;
          const end = start - (start % 512n) + sectors * 512n;
          for (let cluster = start / size; cluster <= (end - 1n) / size; cluster++) {
            claim(cluster * size, 1n, 'compressed');
          }
        } else if ((entry & OFFSET) !== 0n && !dataFile) {
          claim(((entry & OFFSET) / size) * size, 1n, 'data');
        }
      }
    }
  };
  claim(0n, size, 'header');
  const refcountTable = u64(48n);
  const refcountEntries = (BigInt(u32(56)) * size) / 8n;
  claim(refcountTable, refcountEntries * 8n, 'refcountTable');
  const block = (index: bigint) => (index < refcountEntries ? u64(refcountTable + index * 8n) & ~0x1ffn : 0n);
  for (let i = 0n; i < refcountEntries; i++) {
    if (block(i) !== 0n) {
      claim((block(i) / size) * size, 1n, 'refcountBlock');
    }
  }
  walk(u64(40n), u32(36));
  let snapshot = u64(64n);
  // An entry with more than 1024 bytes of extra data is none, and nothing behind it can be found.
  for (let i = u32(60); i > 0 && u64(snapshot + 36n) >> 32n <= 1024n; i--) {
    walk(u64(snapshot), Number(u64(snapshot + 8n) >> 32n));
    const length = 40n + (u64(snapshot + 36n) >> 32n) + u16(snapshot + 12n) + u16(snapshot + 14n);
    snapshot += ((length + 7n) / 8n) * 8n;
  }
  if (u32(60) > 0) {
    claim(u64(64n), snapshot - u64(64n), 'snapshotTable');
  }
  for (let at = u32(100); version === 3 && u32(at) !== 0; at += 8 + Math.ceil(u32(at + 4) / 8) * 8) {
    if (u32(at) === 0x23852875) {
      const directory = u64(BigInt(at + 24));
      claim(directory, u64(BigInt(at + 16)), 'bitmap');
      // The builder makes one bitmap.
      const table = u64(directory);
      const entries = u64(directory + 8n) >> 32n;
      claim(table, entries * 8n, 'bitmap');
      for (let i = 0n; i < entries; i++) {
        const target = u64(table + i * 8n) & OFFSET;
        if (target !== 0n) {
          claim((target / size) * size, 1n, 'bitmap');
        }
      }
    }
  }
  const perBlock = (size * 8n) / bits;
  return claims.map(({ kind, count }, cluster) => {
    const offset = block(BigInt(cluster) / perBlock);
    const entry = BigInt(cluster) % perBlock;
    let refcount = 0n;
    if (offset !== 0n && offset % size === 0n && offset < fileEnd) {
      const bitOffset = entry * bits;
      const word = u64(offset + bitOffset / 8n);
      // Entries of less than a byte are packed from the least significant bit of each byte on.
      refcount = bits >= 8n ? word >> (64n - bits) : (word >> (56n + (bitOffset % 8n))) & ((1n << bits) - 1n);
    }
    if (count === 0) {
      return refcount > 0n ? 'leaked' : 'free';
    }
    return kind === CONFLICT || BigInt(count) > refcount ? 'corrupt' : kind;
  });
}

/** Class ids of all clusters of a QED file. */
export function qedHostClasses(file: Uint8Array): string[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const size = view.getUint32(4, true);
  const tableBytes = size * view.getUint32(8, true);
  const claims = Array.from({ length: Math.ceil(file.length / size) }, () => ({ kind: '', count: 0 }));
  const claim = (from: number, length: number, kind: string) => {
    for (let at = from; at < Math.min(from + length, file.length); at += size) {
      const entry = claims[at / size]!;
      entry.kind = entry.kind === '' || entry.kind === kind ? kind : CONFLICT;
      entry.count++;
    }
  };
  const offsetAt = (at: number) => (at + 8 <= file.length ? Number(view.getBigUint64(at, true)) : 0);
  claim(0, view.getUint32(12, true) * size, 'header');
  const l1 = offsetAt(40);
  claim(l1, tableBytes, 'l1');
  for (let i = 0; i < tableBytes; i += 8) {
    const table = offsetAt(l1 + i);
    if (table !== 0 && table % size === 0 && table < file.length) {
      claim(table, tableBytes, 'l2');
      for (let j = 0; j < tableBytes; j += 8) {
        if (offsetAt(table + j) > 1) {
          claim(offsetAt(table + j), size, 'data');
        }
      }
    }
  }
  return claims.map(({ kind, count }) => (count === 0 ? 'leaked' : kind === CONFLICT || count > 1 ? 'corrupt' : kind));
}
