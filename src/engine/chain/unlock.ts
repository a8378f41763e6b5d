import type { ClusterCipher } from '../formats/qcow2/crypto/clusterCipher';
import { isSameKey, openCipher } from '../formats/qcow2/crypto/open';
import { loading } from '../io/loading';
import type { Layer, OpenedChain } from './layer';

/** The ciphers of encrypted layers. */
export type Ciphers = ReadonlyMap<Layer, ClusterCipher>;

/** The layers of a chain whose guest data is encrypted. */
export function encryptedLayers({ layers }: Pick<OpenedChain, 'layers'>): readonly Layer[] {
  return layers.filter(({ detail }) => detail.format === 'qcow2' && detail.metadata.cryptMethod !== 0);
}

/**
 * Opens the ciphers of all encrypted layers of a chain.
 * @throws EngineError `data.encrypted` for a layer that there is no passphrase of, and as `unlockChain`
 */
export async function unlockAll(
  chain: OpenedChain,
  passphraseOf: (layer: Layer) => Uint8Array | null,
  signal?: AbortSignal,
): Promise<Ciphers> {
  const ciphers = new Map<Layer, ClusterCipher>();
  for (const layer of encryptedLayers(chain)) {
    const { detail } = layer;
    const cipher = detail.format === 'qcow2' ? await loading(() => openCipher(detail.metadata, passphraseOf(layer), signal)) : null;
    if (cipher) {
      ciphers.set(layer, cipher);
    }
  }
  return ciphers;
}

/** Ciphers of a chain for the same chain as it was read later: for the layers whose keys are still the same. */
export async function carryCiphers(ciphers: Ciphers, later: OpenedChain): Promise<Ciphers> {
  const carried = new Map<Layer, ClusterCipher>();
  for (const layer of encryptedLayers(later)) {
    const [before, cipher] = [...ciphers].find(([{ filename }]) => filename === layer.filename) ?? [];
    if (before && cipher && (await loading(() => haveSameKey(before, layer)))) {
      carried.set(layer, cipher);
    }
  }
  return carried;
}

function haveSameKey({ detail: one }: Layer, { detail: other }: Layer): boolean {
  return one.format === 'qcow2' && other.format === 'qcow2' && isSameKey(one.metadata, other.metadata);
}

/**
 * Opens the ciphers of a chain's encrypted layers, for `openReader`.
 * @param passphraseOf the passphrase of a layer, or null where there is none: reading that layer is then refused
 * @throws EngineError `data.passphrase` for a wrong one, `format.invalid`, `format.unsupported`, `cancelled`
 */
export async function unlockChain(
  chain: OpenedChain,
  passphraseOf: (layer: Layer) => Uint8Array | null,
  signal?: AbortSignal,
): Promise<Ciphers> {
  const ciphers = new Map<Layer, ClusterCipher>();
  for (const layer of chain.layers) {
    const { detail } = layer;
    const passphrase = detail.format === 'qcow2' && detail.metadata.cryptMethod !== 0 ? passphraseOf(layer) : null;
    const cipher = detail.format === 'qcow2' && passphrase ? await openCipher(detail.metadata, passphrase, signal) : null;
    if (cipher) {
      ciphers.set(layer, cipher);
    }
  }
  return ciphers;
}
