import type { OpenedChain } from '../engine/chain/layer';
import type { Ciphers } from '../engine/chain/unlock';
import { Inspector } from '../engine/inspect/inspector';
import { MapSession } from '../engine/map/mapSession';
import type { Overview } from '../protocol/inspect';

/**
 * What is open of an image at one moment: its chain and what is cached about it. When the files change it is replaced as a whole;
 * requests that still use the old one finish on it.
 */
export class OpenImage {
  readonly chain: OpenedChain;
  readonly inspector: Inspector;
  readonly maps: MapSession;
  private read: Overview;
  private users = 0;
  private retired = false;

  constructor(chain: OpenedChain, ciphers: Ciphers = new Map()) {
    this.chain = chain;
    this.inspector = new Inspector(chain, ciphers);
    this.maps = new MapSession(chain);
    // Read at once: after a change, this is what the new state is compared with.
    this.read = this.inspector.overview();
  }

  get overview(): Overview {
    return this.read;
  }

  /** Of the encrypted layers whose data is shown. */
  get ciphers(): Ciphers {
    return this.inspector.ciphers;
  }

  /** Shows the data of these encrypted layers from now on, and of no others. */
  decrypt(ciphers: Ciphers): void {
    this.inspector.ciphers = ciphers;
    this.read = this.inspector.overview();
  }

  async use<T>(work: (image: this) => T | Promise<T>): Promise<T> {
    this.users += 1;
    try {
      return await work(this);
    } finally {
      this.users -= 1;
      this.closeWhenUnused();
    }
  }

  /** Nobody begins to use it any more. */
  retire(): void {
    this.retired = true;
    this.closeWhenUnused();
  }

  private closeWhenUnused(): void {
    if (this.retired && this.users === 0) {
      this.chain.close();
    }
  }
}
