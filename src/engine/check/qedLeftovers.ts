import { EngineError } from '../errors';
import type { QedMetadata } from '../formats/qed/metadata';
import type { CheckPace } from './checkPace';
import { hex, type Findings } from './findings';
import { readInto } from './padded';
import type { ScanLoops } from './scanLoops';

/** Bytes of a cluster that are looked at. */
const LOOK_BYTES = 64 * 1024;

/** Offsets that a table must hold before data is taken for one: data may well have a single word that looks like an offset. */
const FEWEST_OFFSETS = 2;

/** Looks into leaked clusters of a QED image: they may have been a table, or hold data. At most 64 MiB are read. */
export async function lookIntoQedLeaks(
  metadata: QedMetadata,
  clusters: readonly number[],
  findings: Findings,
  loops: ScanLoops,
  pace: CheckPace,
): Promise<void> {
  const { clusterSize } = metadata;
  for (const cluster of clusters) {
    const hostOffset = cluster * clusterSize;
    const seen = look(metadata, hostOffset, loops);
    const place = { kind: 'host', hostOffset, length: clusterSize } as const;
    if (seen === 'table') {
      findings.add('lostTable', 'extra', () => ({
        message: `Leaked cluster ${cluster} at ${hex(hostOffset)} has the content of a table.`,
        consequence: 'The entry that led to it seems to be lost, and with it the guest data that it maps.',
        place,
        cluster: place,
        guest: null,
      }));
    } else if (seen === 'data') {
      findings.add('lostData', 'extra', () => ({
        message: `Leaked cluster ${cluster} at ${hex(hostOffset)} is not empty.`,
        consequence:
          'An interrupted write leaves such a cluster behind, but so does a table entry that was wiped: this may be lost guest data.',
        place,
        cluster: place,
        guest: null,
      }));
    }
    if (pace.due()) {
      await pace.turn();
    }
  }
}

function look({ source, clusterSize }: QedMetadata, hostOffset: number, { buffer, view }: ScanLoops): 'nothing' | 'data' | 'table' {
  const length = Math.min(clusterSize, LOOK_BYTES);
  try {
    readInto(source, buffer.subarray(0, length), hostOffset);
  } catch (error) {
    if (error instanceof EngineError && error.code === 'file.io') {
      // What cannot be read cannot be judged; it stays an ordinary leak.
      return 'nothing';
    }
    throw error;
  }
  let offsets = 0;
  let table = true;
  let empty = true;
  for (let p = 0; p < length && (table || empty); p += 8) {
    const low = view.getUint32(p, true);
    const high = view.getUint32(p + 4, true);
    if ((low | high) === 0) {
      continue;
    }
    empty = false;
    const offset = high * 2 ** 32 + low;
    if (offset !== 1) {
      table &&= (low & (clusterSize - 1)) === 0 && offset < source.size;
      offsets++;
    }
  }
  return empty ? 'nothing' : table && offsets >= FEWEST_OFFSETS ? 'table' : 'data';
}
