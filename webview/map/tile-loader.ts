import type { MapTile } from '../../src/protocol/inspect';
import { isCancelled, problemOf, type Problem } from '../problem';
import { tileName, type TileCache, type TileKey } from './tile-cache';

/** Requests under way at a time: enough to keep the worker busy, few enough that a pan is served soon. */
const CONCURRENT = 4;

interface LoaderEvents {
  /** A tile came into the cache. */
  arrived(): void;
  failed(problem: Problem): void;
}

/**
 * Fetches tiles in the order of want. Wanting something else gives up what is no longer wanted; a tile that failed is not asked for again
 * until `reset`.
 */
export class TileLoader {
  private readonly cache: TileCache;
  private readonly fetch: (key: TileKey, signal: AbortSignal) => Promise<MapTile>;
  private readonly events: LoaderEvents;
  private wanted: readonly TileKey[] = [];
  private readonly running = new Map<string, AbortController>();
  private readonly broken = new Set<string>();

  constructor(cache: TileCache, fetch: (key: TileKey, signal: AbortSignal) => Promise<MapTile>, events: LoaderEvents) {
    this.cache = cache;
    this.fetch = fetch;
    this.events = events;
  }

  /** Nothing is missing of what was wanted last. */
  get settled(): boolean {
    return this.wanted.every((key) => this.cache.has(key) || this.broken.has(tileName(key)));
  }

  want(keys: readonly TileKey[]): void {
    this.wanted = keys;
    const names = new Set(keys.map(tileName));
    for (const [name, controller] of this.running) {
      if (!names.has(name)) {
        controller.abort();
        this.running.delete(name);
      }
    }
    this.fill();
  }

  /** Forgets failures and gives up what is under way. */
  reset(): void {
    for (const controller of this.running.values()) {
      controller.abort();
    }
    this.running.clear();
    this.broken.clear();
    this.wanted = [];
  }

  private fill(): void {
    for (const key of this.wanted) {
      if (this.running.size >= CONCURRENT) {
        return;
      }
      const name = tileName(key);
      if (!this.cache.has(key) && !this.running.has(name) && !this.broken.has(name)) {
        void this.load(key, name);
      }
    }
  }

  private async load(key: TileKey, name: string): Promise<void> {
    const controller = new AbortController();
    this.running.set(name, controller);
    try {
      const tile = await this.fetch(key, controller.signal);
      if (this.running.get(name) !== controller) {
        return;
      }
      this.running.delete(name);
      this.cache.put(tile);
      this.events.arrived();
    } catch (error) {
      if (this.running.get(name) !== controller) {
        return;
      }
      this.running.delete(name);
      if (!isCancelled(error)) {
        this.broken.add(name);
        this.events.failed(problemOf(error));
      }
    }
    this.fill();
  }
}
