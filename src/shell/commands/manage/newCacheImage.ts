import * as path from 'node:path';
import * as vscode from 'vscode';

import type { BackingReference } from '../../../protocol/manage';
import { tellInformation } from '../../messages';
import { formatBytes, formatBytesExactly } from '../../text/bytes';
import { plainText } from '../../text/plain';
import { explainSize, parseBytes, qemuSize } from '../../text/sizes';
import { realPathOf } from '../../trust/realPath';
import { requireTrust } from '../../trust/required';
import { createOptions } from './formatOptions';
import { mayReplace, newFile, recordedName } from './newImages';
import { defaultFolder, perform, showNew } from './operations';
import type { ManageParts } from './parts';
import { chooseSubject, describeSubject } from './subject';
import { runWizard, type FieldRemark, type Step } from './wizard';

/** What a cache image is put before. */
interface Base {
  /** Absolute path, or an address. */
  readonly name: string;
  readonly format: BackingReference['format'];
  /** For messages. */
  readonly shown: string;
  /** Bytes; null for an address, which nobody asked yet. */
  readonly size: number | null;
}

interface CacheImage {
  /** Bytes that its file may take. */
  readonly quota: number;
  readonly clusterSize: string;
  readonly path: string;
}

/** Servers whose images can be read. */
const ADDRESS = /^(https?|nbds?|nbd\+unix|nbds\+unix):\/\/\S+$/i;

/** For a base that is larger, or of unknown size. */
const SUGGESTED_QUOTA = 10 * 1024 ** 3;

/** *New Cache Image…*: an image that keeps, up to a quota, what overlays on it read of a slow base. */
export async function newCacheImage(parts: ManageParts, argument: unknown): Promise<void> {
  if (!(await requireTrust('In a workspace that is not trusted, no image is made.'))) {
    return;
  }
  const base = argument === undefined ? await askBase(parts) : await imageBase(parts, argument);
  if (base === null) {
    return;
  }
  const { name, format, size, shown } = base;
  const isAddress = size === null;
  const initial: CacheImage = {
    quota: size === null ? SUGGESTED_QUOTA : Math.max(Math.min(size, SUGGESTED_QUOTA), 1024 ** 2),
    clusterSize: '64K',
    path: '',
  };
  const suggested = vscode.Uri.joinPath(defaultFolder(isAddress ? undefined : name), `${stem(shown)}-cache`);
  const askPlace: Step<CacheImage> = {
    ask: async (page, answers) => ({ ...answers, path: await newFile(page, 'qcow2', suggested) }),
  };
  const answers = await runWizard(`New Cache Image of ${shown}`, initial, [askQuota(size), askClusterSize, askPlace]);
  if (answers === null || !(await mayReplace(parts, answers.path))) {
    return;
  }
  const { path: file, quota, clusterSize } = answers;
  await perform(parts, {
    method: 'create',
    title: `Creating ${plainText(path.basename(file))}`,
    params: {
      path: file,
      format: 'qcow2',
      size: null,
      backing: { name: isAddress ? name : recordedName(file, name, true), format },
      options: { cluster_size: clusterSize, cache_img_quota: String(quota) },
    },
  });
  if (isAddress) {
    await allowAddress(parts, file, name);
  }
  await showNew(parts, file, 'qcow2');
  void tellInformation(
    `${plainText(path.basename(file))} is created. Overlays on it that are exported over NBD keep up to ${formatBytes(quota)} of what they read there.`,
  );
}

/** From the palette: nothing says which base is meant. */
async function askBase(parts: ManageParts): Promise<Base | null> {
  interface Source {
    readonly kind: 'image' | 'file' | 'address';
    readonly name: string;
    readonly format: 'raw' | 'qcow2' | 'qed' | 'vmdk';
  }
  const steps: readonly Step<Source>[] = [
    {
      ask: async (page, answers) => ({
        ...answers,
        kind: await page.pick<Source['kind']>({
          placeholder: 'The base, whose reading is to be made fast',
          choices: [
            { label: 'An image of this window', detail: 'The one in front, or selected in Image Chains.', value: 'image' },
            { label: 'A file…', detail: 'For example on a network file system.', value: 'file' },
            { label: 'An address…', detail: 'A web server (http, https) or an NBD server (nbd, nbds).', value: 'address' },
          ],
          current: answers.kind,
        }),
      }),
    },
    { when: ({ kind }) => kind === 'file', ask: async (page, answers) => ({ ...answers, name: await page.openFile({}) }) },
    {
      when: ({ kind }) => kind === 'address',
      ask: async (page, answers) => ({
        ...answers,
        name: (
          await page.text({
            prompt: 'Address of the base. It is contacted now, and whenever the cache image is opened',
            placeholder: 'https://example.org/images/base.qcow2',
            value: answers.kind === 'address' ? answers.name : '',
            check: addressRemark,
          })
        ).trim(),
      }),
    },
    {
      when: ({ kind }) => kind === 'address',
      ask: async (page, answers) => ({
        ...answers,
        format: await page.pick<Source['format']>({
          placeholder: 'Format of the image at that address',
          choices: (['raw', 'qcow2', 'qed', 'vmdk'] as const).map((value) => ({ label: value, value })),
          current: /\.(qcow2|qed|vmdk)$/i.test(answers.name)
            ? (path.extname(answers.name).slice(1).toLowerCase() as Source['format'])
            : 'raw',
        }),
      }),
    },
  ];
  const source = await runWizard<Source>('New Cache Image', { kind: 'image', name: '', format: 'raw' }, steps);
  switch (source?.kind) {
    case undefined:
      return null;
    case 'image':
      return imageBase(parts, undefined);
    case 'file': {
      const subject = await describeSubject(parts, source.name);
      return subject === null ? null : localBase(subject.path, subject.format, subject.summary.virtualSize);
    }
    case 'address':
      return { name: source.name, format: source.format, shown: plainText(addressName(source.name), 60), size: null };
  }
}

async function imageBase(parts: ManageParts, argument: unknown): Promise<Base | null> {
  const subject = await chooseSubject(parts, argument);
  return subject === null ? null : localBase(subject.path, subject.format, subject.summary.virtualSize);
}

async function localBase(file: string, format: Base['format'], size: number): Promise<Base> {
  return { name: await realPathOf(file), format, shown: plainText(path.basename(file), 60), size };
}

/** @param size of the base's disk in bytes; null where it is not known */
function askQuota(size: number | null): Step<CacheImage> {
  return {
    ask: async (page, answers) => {
      const text = await page.text({
        prompt: 'Quota: the size to which the file of the cache image may grow',
        placeholder: '10G',
        value: qemuSize(answers.quota),
        check: (value) => quotaRemark(value, size),
      });
      return { ...answers, quota: parseBytes(text) ?? answers.quota };
    },
  };
}

const askClusterSize: Step<CacheImage> = {
  ask: async (page, answers) => ({
    ...answers,
    clusterSize: await page.pick({
      placeholder: 'Cluster size: what is read is kept in whole clusters',
      choices: (createOptions('qcow2', {}, true).find(({ name }) => name === 'cluster_size')?.values ?? []).map(({ value, label }) => ({
        label,
        value,
        ...(value === '64K' ? { description: 'default' } : {}),
        ...(value === '512' ? { detail: 'Reads the least of the base, and needs the most space for tables.' } : {}),
      })),
      current: answers.clusterSize,
    }),
  }),
};

function quotaRemark(text: string, size: number | null): FieldRemark {
  const quota = parseBytes(text);
  if (quota === 0) {
    return { message: 'A cache of no size keeps nothing.', isError: true };
  }
  const remark = explainSize(text, quota);
  return quota !== null && size !== null && quota < size
    ? { ...remark, message: `${remark.message}, of a disk of ${formatBytesExactly(size)}` }
    : remark;
}

function addressRemark(text: string): FieldRemark | null {
  return ADDRESS.test(text.trim())
    ? null
    : { message: 'That is no address. Write one that begins with https://, http://, nbd:// or nbd+unix://.', isError: true };
}

/** The last part of an address that names something. */
function addressName(address: string): string {
  const parts = address
    .replace(/[?#].*$/, '')
    .split('/')
    .filter((part) => part !== '');
  return parts.at(-1) ?? address;
}

function stem(name: string): string {
  return name.replace(/\.[^.]*$/, '').replaceAll(/[^\w.-]/g, '-') || 'disk';
}

/** The person typed the address: the new image may lead there. What that is to the gate, the gate is asked. */
async function allowAddress({ engine, gate }: ManageParts, file: string, address: string): Promise<void> {
  const image = await realPathOf(file);
  await engine.describeChain({ path: image, format: 'qcow2' });
  const target = gate.refusal(image, address)?.address ?? null;
  if (target !== null) {
    await gate.add({ kind: 'grant', image, target });
  }
}
