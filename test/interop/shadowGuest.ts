import { NbdClient } from '../../src/engine/nbd/client/nbdClient';
import { Random } from './random';

/** Bytes that one of a guest's programs has for itself, in turn with the others': they meet in every cluster, and in no byte. */
const SLOT = 4096;
const SECTOR = 512;

/** A guest whose programs read and write a disk through NBD at the same time, and know what each byte must be. */
export class ShadowGuest {
  /** What the guest has written, over what was there before. */
  readonly shadow: Uint8Array;
  private readonly clients: readonly NbdClient[];
  private readonly random: Random;
  private running = false;
  private writes = true;
  private programs: Promise<number>[] = [];

  private constructor(clients: readonly NbdClient[], shadow: Uint8Array, seed: number) {
    this.clients = clients;
    this.shadow = shadow;
    this.random = new Random(seed);
  }

  static async connect(socket: string, programs: number, shadow: Uint8Array, seed: number): Promise<ShadowGuest> {
    const address = { protocol: 'nbd', socket: { type: 'unix', path: socket }, exportName: '', tls: false } as const;
    const clients = await Promise.all(Array.from({ length: programs }, () => NbdClient.open(address, { reconnectDelayMs: 0 })));
    return new ShadowGuest(clients, shadow, seed);
  }

  /** Lets all programs run until `stop`; `writes` false: they only read, so that it is known what a crash may leave. */
  start(writes = true): void {
    this.writes = writes;
    this.running = true;
    this.programs = this.clients.map((client, index) => this.program(client, index, new Random(this.random.bits())));
    // Whoever waits for them is told.
    for (const program of this.programs) {
      program.catch(() => undefined);
    }
  }

  /** @returns the number of requests. @throws when a byte was not what it must be */
  async stop(): Promise<number> {
    const requests = await this.pause();
    this.close();
    return requests;
  }

  /** Ends the programs, with all that they wrote on the disk; `start` lets them go on. */
  async pause(): Promise<number> {
    this.running = false;
    const counts = await Promise.all(this.programs);
    await this.clients[0]?.flush();
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** How the programs end when their server is killed. */
  async crashed(): Promise<void> {
    await Promise.allSettled(this.programs);
    this.close();
  }

  private close(): void {
    this.clients.forEach((client) => client.close());
  }

  private async program(client: NbdClient, index: number, random: Random): Promise<number> {
    let requests = 0;
    const slots = Math.floor(this.shadow.length / SLOT);
    while (this.running) {
      const slot = random.below(slots);
      const own = slot - (slot % this.clients.length) + index;
      if (own >= slots) {
        continue;
      }
      const from = own * SLOT + SECTOR * random.below(SLOT / SECTOR);
      const length = SECTOR * random.between(1, (own * SLOT + SLOT - from) / SECTOR);
      await this.request(client, random, from, length);
      requests++;
    }
    return requests;
  }

  private async request(client: NbdClient, random: Random, offset: number, length: number): Promise<void> {
    const known = this.shadow.subarray(offset, offset + length);
    if (!this.writes || random.chance(0.5)) {
      const bytes = new Uint8Array(length);
      await client.read(offset, bytes);
      if (Buffer.compare(bytes, known) !== 0) {
        throw new Error(`The guest read ${length} bytes at ${offset} that are not what it wrote.`);
      }
    } else if (random.chance(0.2)) {
      await client.writeZeroes(offset, length);
      known.fill(0);
    } else {
      const bytes = new Uint8Array(length).fill(random.between(1, 255));
      await client.write(offset, bytes);
      known.set(bytes);
    }
  }
}
