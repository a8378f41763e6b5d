import type { ImageFormat } from '../../protocol/chain';
import { EngineError, invalidRequest } from '../errors';

const FORMATS: readonly ImageFormat[] = ['qcow2', 'qed', 'raw', 'vmdk'];

/** Drivers that QEMU has and this program has not; anything else is a typing mistake. */
const FOREIGN = new Set(
  (
    'blkdebug blklogwrites blkverify bochs cloop compress copy-before-write copy-on-read dmg file ftp ftps gluster host_cdrom host_device ' +
    'http https iscsi iser luks nbd nfs null-aio null-co nvme parallels preallocate qcow quorum rbd replication snapshot-access ssh ' +
    'throttle vdi vhdx vpc vvfat'
  ).split(' '),
);

/**
 * A format by QEMU's name.
 * @param what how QEMU calls it where it is named
 * @throws EngineError `request.invalid` for a name that there is none of, `format.unsupported`
 */
export function knownFormat(name: string, what: 'file format' | 'driver' = 'file format'): ImageFormat {
  const format = FORMATS.find((known) => known === name);
  if (format) {
    return format;
  }
  if (FOREIGN.has(name)) {
    throw new EngineError('format.unsupported', `Driver '${name}' is not available in this version`);
  }
  throw what === 'driver' ? new EngineError('format.unknown', `Unknown driver '${name}'`) : invalidRequest(`Unknown file format '${name}'`);
}
