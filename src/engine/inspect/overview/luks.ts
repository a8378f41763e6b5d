import type { StructureView } from '../../../protocol/inspect';
import { readLuksHeader, type LuksHeader, type LuksKeySlot } from '../../formats/luks/header';
import { LUKS_KEY_SLOT, LUKS_SECTOR } from '../../formats/luks/structures';
import type { Qcow2Metadata } from '../../formats/qcow2/metadata';
import { ENCRYPTION_EXTENSION, EXTENSION } from '../../formats/qcow2/structures';
import { luksInfo } from '../../info/luksInfo';
import { Decoded } from '../../layout/codec';
import { structureView } from '../fieldView';
import { exactSize, hex } from '../wording';
import type { Fact } from './facts';

/** The LUKS header that a qcow2 image points at; null when it names none, or a place outside the file. */
export function luksHeaderOf(metadata: Qcow2Metadata): LuksHeader | null {
  const found = metadata.extensions.find(({ type }) => type === EXTENSION.encryption);
  if (!found) {
    return null;
  }
  const hostOffset = new Decoded(ENCRYPTION_EXTENSION, found.data).number('offset');
  return hostOffset < metadata.source.size ? readLuksHeader(metadata.source, hostOffset) : null;
}

/** The LUKS header and its key slots. Their offsets count from the header's own place in the file. */
export function luksViews(luks: LuksHeader): StructureView[] {
  const { header, hostOffset, source, problems } = luks;
  const view = structureView(header, {
    id: 'luks',
    title: header.structure.title,
    hostOffset,
    fileSize: source.size,
    problems: problems.filter(({ structure }) => structure === header.structure.title),
    explain: {
      'payload-offset': `${hex(luks.payloadOffset)} bytes from the header`,
      'key-bytes': `${luks.keyBytes * 8} bits`,
    },
    places: { 'payload-offset': placeAt(luks, luks.payloadOffset) },
  });
  return [view, ...luks.slots.map((slot) => slotView(luks, slot))];
}

function slotView(luks: LuksHeader, slot: LuksKeySlot): StructureView {
  return structureView(slot.fields, {
    id: `luksSlot.${slot.index}`,
    title: `${LUKS_KEY_SLOT.title} ${slot.index}`,
    hostOffset: slot.hostOffset,
    fileSize: luks.source.size,
    problems: luks.problems.filter(
      ({ structure, hostOffset }) =>
        structure === LUKS_KEY_SLOT.title && hostOffset >= slot.hostOffset && hostOffset < slot.hostOffset + LUKS_KEY_SLOT.length,
    ),
    explain: {
      'key-material-offset': `${hex(slot.keyOffset)} bytes from the header, ${exactSize(Math.ceil((luks.keyBytes * slot.stripes) / LUKS_SECTOR) * LUKS_SECTOR)} long`,
    },
    places: { 'key-material-offset': placeAt(luks, slot.keyOffset) },
  });
}

function placeAt({ hostOffset, source }: LuksHeader, offset: number): { kind: 'host'; hostOffset: number } | null {
  const at = hostOffset + offset;
  return offset > 0 && at < source.size ? { kind: 'host', hostOffset: at } : null;
}

/** qemu-img's lines below `encrypt:`. */
export function encryptionFacts(metadata: Qcow2Metadata): Fact[] {
  if (metadata.cryptMethod === 1) {
    return [{ name: 'encrypt format', value: 'aes', place: null }];
  }
  const luks = metadata.cryptMethod === 2 ? luksHeaderOf(metadata) : null;
  if (!luks) {
    return [];
  }
  const info = luksInfo(luks);
  const at = (name: Parameters<typeof luks.header.field>[0]) => ({
    kind: 'host' as const,
    hostOffset: luks.hostOffset + luks.header.field(name).offset,
  });
  return [
    { name: 'encrypt format', value: 'luks', place: { kind: 'host', hostOffset: luks.hostOffset } },
    { name: 'ivgen alg', value: info.ivgenAlg, place: at('cipher-mode') },
    { name: 'hash alg', value: info.hashAlg, place: at('hash-spec') },
    { name: 'cipher alg', value: info.cipherAlg, place: at('cipher-name') },
    { name: 'uuid', value: info.uuid, place: at('uuid') },
    { name: 'cipher mode', value: info.cipherMode, place: at('cipher-mode') },
    { name: 'payload offset', value: `${info.payloadOffset}`, place: at('payload-offset') },
    { name: 'master key iters', value: `${info.masterKeyIters}`, place: at('mk-digest-iter') },
    { name: 'active key slots', value: `${info.slots.filter(({ active }) => active).length} of ${info.slots.length}`, place: null },
  ];
}
