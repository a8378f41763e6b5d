import type { MapCellInfo, MapRequest, MapShape, MapTile, MapTileRequest, Usage } from '../../protocol/inspect';
import type { OpenedChain } from '../chain/layer';
import { invalidRequest } from '../errors';
import { Pace, type PaceOptions } from '../pace';
import type { ClassSource } from './classSource';
import { MapGeometry } from './geometry';
import { GuestMap } from './guestMap';
import { HOST_CLASSES } from './hostClass';
import { HostMap } from './hostMap';
import { ACTIVE_VIEW } from './mappings';
import { ClassTable, LargePicture, MOST_CLUSTERS, type Picture } from './picture';
import { SharedTask } from './sharedTask';

/** Bytes of class tables and pictures that a session keeps; the ones not used for longest go first. */
const DEFAULT_BUDGET = 96 * 1024 * 1024;

/** Something that took a while to make, and knows what it holds. */
interface Sized {
  readonly bytes: number;
}

interface Kept<T extends Sized = Sized> {
  readonly task: SharedTask<T>;
  /** Null while it is being made. */
  value: T | null;
}

/**
 * The maps of one opened image: answers the requests `mapShape`, `mapTile`, `mapCell`, `mapFind` and `usage`. What they need is scanned
 * once, by whoever asks first, and kept within a budget.
 */
export class MapSession {
  private readonly chain: Pick<OpenedChain, 'layers' | 'complete'>;
  private readonly budget: number;
  /** In the order of their last use. */
  private readonly kept = new Map<string, Kept>();
  private readonly sources = new Map<string, ClassSource>();

  /** @param budget bytes to keep at most, besides what is in use */
  constructor(chain: Pick<OpenedChain, 'layers' | 'complete'>, budget = DEFAULT_BUDGET) {
    this.chain = chain;
    this.budget = budget;
  }

  /** Forgets everything: the image or a file of its chain changed. */
  invalidate(): void {
    this.kept.clear();
    this.sources.clear();
  }

  /** @throws EngineError `request.invalid`, `format.unsupported`, `cancelled`, `file.io`; so do the others */
  async shape(request: MapRequest, options: PaceOptions = {}): Promise<MapShape> {
    const source = this.source(request);
    const { geometry, counts } = await this.picture(request, source, options);
    const { clusterSize, clusters, length } = source;
    const lastClass = await this.classOfLast(request, source, options);
    return {
      clusterSize,
      clusters,
      length,
      width: geometry.width,
      height: geometry.height,
      levels: geometry.levels,
      classes: source.classes.map(({ id, label }, index) => ({
        id,
        label,
        index,
        clusters: counts[index]!,
        bytes: counts[index]! * clusterSize - (index === lastClass ? clusters * clusterSize - length : 0),
      })),
    };
  }

  async tile(request: MapTileRequest, options: PaceOptions = {}): Promise<MapTile> {
    const picture = await this.picture(request, this.source(request), options);
    const { level, x, y } = requireCell(picture.geometry, request);
    return picture.tile(level, x, y, new Pace(options));
  }

  async cell(request: MapRequest & { level: number; x: number; y: number }, options: PaceOptions = {}): Promise<MapCellInfo> {
    const source = this.source(request);
    const picture = await this.picture(request, source, options);
    const { geometry } = picture;
    const { level, x, y } = requireCell(geometry, request);
    if (geometry.cellAt(level, x, y) < 0) {
      throw invalidRequest(`Cell ${x}, ${y} of level ${level} lies outside the map.`);
    }
    const spans = geometry.spansOf(level, x, y);
    const firstCluster = spans[0]?.first ?? 0;
    const clusters = spans.reduce((sum, { count }) => sum + count, 0);
    const counted = await picture.cellCounts(level, x, y, new Pace(options));
    const counts = source.classes.flatMap((_, index) => (counted[index]! > 0 ? [{ index, clusters: counted[index]! }] : []));
    const last = spans.at(-1);
    const cut = last && last.first + last.count === source.clusters ? source.clusters * source.clusterSize - source.length : 0;
    return {
      firstCluster,
      clusters,
      counts,
      offset: firstCluster * source.clusterSize,
      length: clusters * source.clusterSize - cut,
      description: await describe(source, firstCluster, clusters, counts),
    };
  }

  find(request: MapRequest & { offset: number }, _options: PaceOptions = {}): Promise<{ x: number; y: number }> {
    const source = this.source(request);
    const { offset } = request;
    if (!(offset >= 0 && offset < source.length)) {
      throw invalidRequest(`Offset ${offset} lies outside the map of ${source.length} bytes.`);
    }
    return Promise.resolve(new MapGeometry(request.order, source.clusters).positionOf(Math.floor(offset / source.clusterSize)));
  }

  /** What the clusters of the active layer's file are spent on. */
  async usage(options: PaceOptions = {}): Promise<Usage> {
    const shape = await this.shape({ space: 'host', mode: 'state', order: 'hilbert', view: ACTIVE_VIEW }, options);
    return {
      clusterSize: shape.clusterSize,
      clusters: shape.clusters,
      rows: shape.classes.map(({ clusters, bytes }, index) => ({ class: HOST_CLASSES[index]!.id, clusters, bytes })),
    };
  }

  private source(request: MapRequest): ClassSource {
    const key = sourceKey(request);
    let source = this.sources.get(key);
    if (!source) {
      source = this.newSource(request);
      this.sources.set(key, source);
    }
    return source;
  }

  private newSource({ space, mode, view }: MapRequest): ClassSource {
    if (space === 'guest') {
      return new GuestMap(this.chain, mode, view);
    }
    const [active] = this.chain.layers;
    if (!active) {
      throw invalidRequest('No image is open.');
    }
    return new HostMap(active);
  }

  private async picture(request: MapRequest, source: ClassSource, options: PaceOptions): Promise<Picture> {
    const { order } = request;
    const key = sourceKey(request);
    if (source.clusters <= MOST_CLUSTERS) {
      const table = await this.keep(key, options, (pace) => ClassTable.read(source, new Pace(pace)));
      const picture = table.picture(order);
      this.dropOldest();
      return picture;
    }
    return this.keep(`${key} ${order}`, options, (pace) =>
      LargePicture.make(source, new MapGeometry(order, source.clusters), new Pace(pace)),
    );
  }

  /** Class of the last cluster, which may be shorter than the others. */
  private async classOfLast(request: MapRequest, source: ClassSource, options: PaceOptions): Promise<number> {
    if (source.length % source.clusterSize === 0) {
      return -1;
    }
    const picture = await this.picture(request, source, options);
    const { x, y } = picture.geometry.positionOf(source.clusters - 1);
    const counts = await picture.cellCounts(0, x, y, new Pace(options));
    return counts.indexOf(1);
  }

  private async keep<T extends Sized>(key: string, options: PaceOptions, make: (options: PaceOptions) => Promise<T>): Promise<T> {
    const known = this.kept.get(key) as Kept<T> | undefined;
    const entry: Kept<T> = known && !known.task.over ? known : { task: new SharedTask(make), value: null };
    this.kept.delete(key);
    this.kept.set(key, entry);
    entry.value = await entry.task.wait(options);
    this.dropOldest();
    return entry.value;
  }

  private dropOldest(): void {
    let total = 0;
    for (const { value } of this.kept.values()) {
      total += value?.bytes ?? 0;
    }
    // What was used last stays, however large.
    for (const [key, { value }] of [...this.kept].slice(0, -1)) {
      if (total > this.budget && value) {
        this.kept.delete(key);
        total -= value.bytes;
      }
    }
  }
}

/** What has to be scanned, whatever the order it is shown in. */
function sourceKey({ space, mode, view }: MapRequest): string {
  return space === 'host' ? 'host' : `guest ${mode} ${view.kind === 'active' ? 'active' : view.index}`;
}

function requireCell<T extends { level: number; x: number; y: number }>(geometry: MapGeometry, cell: T): T {
  const { level, x, y } = cell;
  if (![level, x, y].every((value) => Number.isSafeInteger(value) && value >= 0) || level > geometry.levels) {
    throw invalidRequest(`There is no cell ${x}, ${y} of level ${level}.`);
  }
  return cell;
}

async function describe(source: ClassSource, first: number, clusters: number, counts: MapCellInfo['counts']): Promise<string> {
  const label = (index: number) => source.classes[index]?.label.toLowerCase() ?? '';
  if (clusters === 1) {
    return source.describe(first);
  }
  const parts = [...counts]
    .sort((a, b) => b.clusters - a.clusters)
    .map(({ index, clusters: count }) => `${label(index)} ${percent(count, clusters)}`);
  return `${clusters} clusters from ${first} on (offset 0x${(first * source.clusterSize).toString(16)}): ${parts.join(', ')}`;
}

function percent(part: number, whole: number): string {
  const share = (part / whole) * 100;
  return part === whole ? '100 %' : `${share < 0.1 ? '<0.1' : share > 99.9 ? '>99.9' : share.toFixed(1)} %`;
}
