import type { LayerView } from '../../../protocol/place';
import { readOnlyImage } from '../../errors';
import type { ClusterCipher } from '../../formats/qcow2/crypto/clusterCipher';
import { CompressedClusters } from '../../formats/qcow2/reader';
import type { Qcow2Hooks } from '../../formats/qcow2/write/nodeOptions';
import { Qcow2Node } from '../../formats/qcow2/write/qcow2Node';
import { QedNode } from '../../formats/qed/qedNode';
import { RawNode } from '../../formats/raw/rawNode';
import { DecompressedGrains } from '../../formats/vmdk/grains';
import { FileSource } from '../../io/file';
import { FileStorage } from '../../io/fileStorage';
import { changeLocks, takeLocks, type ImageLock } from '../../io/imageLocks';
import { loading } from '../../io/loading';
import type { ByteSource } from '../../io/source';
import type { Storage } from '../../io/storage';
import type { BlockNode } from '../blockNode';
import type { Layer } from '../../chain/layer';
import { ReadableLayer, type Decompressed } from '../../chain/chainReader';
import { ACTIVE_VIEW } from '../../chain/layerStatus';
import type { GraphNode } from './graphNode';
import { filesOf, readerLocks, writerRole } from './layerFiles';
import { openForWriting, reread, withFiles } from './layerOpening';
import { ReadOnlyNode, type GraphEpoch } from './readOnlyNode';

const DEFAULT_CACHE = 32 * 1024 * 1024;
/** Of the bound for tables, what a reader of a whole chain keeps of where its bytes lie. */
const WINDOWS_SHARE = 4;
const READER_CACHE = 256 * 1024;

/** Makes the drivers of a graph's images: those that read them, and those that write them. */
export class ImageDrivers {
  readonly epoch: GraphEpoch = { value: 0, reading: new Set() };
  /** Bytes of tables that an image keeps in memory. */
  readonly cacheBytes: number;
  private readonly decompressed: Decompressed;
  private nextNode = 0;

  constructor(cacheBytes = DEFAULT_CACHE) {
    this.cacheBytes = cacheBytes;
    this.decompressed = { clusters: new CompressedClusters(cacheBytes / 2), grains: new DecompressedGrains(cacheBytes / 4) };
  }

  nameNode(): string {
    return `#block${String(this.nextNode++).padStart(3, '0')}`;
  }

  reader(layer: Layer, backing: GraphNode | null, cipher: ClusterCipher | null, view: LayerView): ReadOnlyNode {
    return new ReadOnlyNode({
      nodeName: this.nameNode(),
      layer: new ReadableLayer(layer, view, READER_CACHE, this.decompressed, cipher),
      files: filesOf(layer),
      backing: backing?.tracked ?? null,
      epoch: this.epoch,
      cacheBytes: this.cacheBytes / WINDOWS_SHARE,
    });
  }

  /** @throws EngineError `request.readOnly` for a format that is only read; as the drivers */
  async writer(
    layer: Layer,
    [storage, dataFile]: readonly Storage[],
    backing: GraphNode | null,
    cipher: ClusterCipher | null,
    hooks: Qcow2Hooks | undefined,
  ): Promise<BlockNode> {
    const common = { nodeName: this.nameNode(), filename: layer.filename, readOnly: false, backing: backing?.tracked ?? null };
    switch (layer.detail.format) {
      case 'qcow2':
        return Qcow2Node.open({ ...common, storage: storage!, dataFile, cipher, hooks, cacheBytes: this.cacheBytes });
      case 'qed':
        return QedNode.open(storage!, { ...common, cacheBytes: this.cacheBytes });
      case 'raw':
        return new RawNode(storage!, { ...common, probed: !layer.formatRecorded });
      case 'vmdk':
        throw readOnlyImage(layer.filename);
    }
  }

  /** A reader in place of a node's writer, who is to be closed then. @throws EngineError `format.invalid`, `file.locked` */
  async becomeReader(node: GraphNode): Promise<BlockNode> {
    const files: ByteSource[] = [];
    try {
      for (const file of filesOf(node.layer)) {
        files.push(file instanceof FileSource ? FileStorage.reopen(file, { writable: false }) : file);
      }
      const layer = await loading(() => reread(withFiles(node.layer, files)));
      const locks = node.locks.length === 0 ? [] : readerLocks(layer);
      // Its writer, who is to be closed, keeps others away still.
      takeLocks(locks);
      const image = this.reader(layer, node.backing, node.cipher, ACTIVE_VIEW);
      Object.assign(node, { layer, locks });
      return image;
    } catch (error) {
      files.forEach((file) => file.close());
      throw error;
    }
  }

  /** A writer in place of a node's reader, who is to be closed then. @throws EngineError `request.readOnly`, `file.locked` */
  async becomeWriter(node: GraphNode): Promise<BlockNode> {
    const changed: ImageLock[] = [];
    const undo = () => {
      for (const { file, role } of changed) {
        changeLocks(file, writerRole(role), role);
      }
    };
    try {
      for (const lock of node.locks) {
        changeLocks(lock.file, lock.role, writerRole(lock.role));
        changed.push(lock);
      }
      const { storages, locks } = await openForWriting(node.layer, takeLocks);
      try {
        const image = await this.writer(node.layer, storages, node.backing, node.cipher, node.hooks);
        Object.assign(node, { locks, layer: withFiles(node.layer, storages) });
        return image;
      } catch (error) {
        storages.forEach((storage) => storage.close());
        throw error;
      }
    } catch (error) {
      undo();
      throw error;
    }
  }
}
