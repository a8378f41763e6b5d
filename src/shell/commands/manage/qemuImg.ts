import type { FormatOptions, ManageMethod, ManageRequests } from '../../../protocol/manage';
import { qemuSize } from '../../text/sizes';
import { quoted } from '../qemuCommands';
import { isEncrypted } from './formatOptions';

/** ID of the passphrase's object. */
const SECRET = 'sec0';

type Arguments<M extends ManageMethod> = (params: ManageRequests[M]['params']) => readonly string[];

/** The arguments of qemu-img that do what a request does. */
const ARGUMENTS: { readonly [M in ManageMethod]: Arguments<M> } = {
  create: ({ path, format, size, backing, options }) => [
    ...['create', ...secretObject(options), '-f', format],
    ...(backing === null ? [] : ['-b', backing.name, '-F', backing.format]),
    ...optionList(options),
    path,
    ...(size === null ? [] : [qemuSize(size)]),
  ],
  resize: ({ path, format, size, shrink, preallocation }) => [
    ...['resize', '-f', format],
    ...(shrink ? ['--shrink'] : []),
    ...(preallocation === 'off' ? [] : [`--preallocation=${preallocation}`]),
    path,
    String(size),
  ],
  snapshotCreate: ({ path, snapshot }) => ['snapshot', '-c', snapshot, path],
  snapshotApply: ({ path, snapshot }) => ['snapshot', '-a', snapshot, path],
  snapshotDelete: ({ path, name }) => ['snapshot', '-d', name, path],
  bitmapAdd: ({ path, format, bitmap, granularity, enabled }) => [
    ...['bitmap', '-f', format, '--add'],
    ...(granularity === null ? [] : ['-g', qemuSize(granularity)]),
    ...(enabled ? [] : ['--disable']),
    path,
    bitmap,
  ],
  bitmapRemove: ({ path, format, bitmap }) => ['bitmap', '-f', format, '--remove', path, bitmap],
  bitmapClear: ({ path, format, bitmap }) => ['bitmap', '-f', format, '--clear', path, bitmap],
  bitmapEnable: ({ path, format, bitmap }) => ['bitmap', '-f', format, '--enable', path, bitmap],
  bitmapDisable: ({ path, format, bitmap }) => ['bitmap', '-f', format, '--disable', path, bitmap],
  bitmapMerge: ({ path, format, bitmap, source }) => [
    ...['bitmap', '-f', format, '--merge', source.bitmap],
    ...(source.path === path ? [] : ['-b', source.path, '-F', source.format]),
    path,
    bitmap,
  ],
  amend: ({ path, format, options }) => ['amend', '-f', format, ...optionList(options), path],
  convert: ({ source, snapshot, target, targetFormat, options, compress, salvage, bitmaps }) => [
    ...['convert', ...secretObject(options), '-f', source.format, '-O', targetFormat],
    ...(compress ? ['-c'] : []),
    ...(salvage ? ['--salvage'] : []),
    ...(bitmaps ? ['--bitmaps', '--skip-broken-bitmaps'] : []),
    ...(snapshot === null ? [] : ['-l', snapshot]),
    ...optionList(options),
    source.path,
    target,
  ],
  measure: ({ source, targetFormat, options }) => ['measure', '-f', source.format, '-O', targetFormat, ...optionList(options), source.path],
  rebase: ({ path, format, backing, unsafe }) => [
    ...['rebase', '-f', format],
    ...(unsafe ? ['-u'] : []),
    ...(backing === null ? ['-b', ''] : ['-b', backing.name, '-F', backing.format]),
    path,
  ],
  commit: ({ path, format, base, keepTop }) => [
    ...['commit', '-f', format],
    ...(base === null ? [] : ['-b', base]),
    ...(keepTop ? ['-d'] : []),
    path,
  ],
  compare: ({ first, second, strict }) => [
    ...['compare', '-f', first.format, '-F', second.format],
    ...(strict ? ['-s'] : []),
    first.path,
    second.path,
  ],
};

/** The command line of qemu-img that does what a request does; of `chainscope` for what qemu-img cannot: cache images. */
export function qemuImgCommand<M extends ManageMethod>(method: M, params: ManageRequests[M]['params'], platform: NodeJS.Platform): string {
  const words: readonly string[] = (ARGUMENTS[method] as Arguments<M>)(params);
  const program = 'options' in params && 'cache_img_quota' in params.options ? 'chainscope' : 'qemu-img';
  return [program, ...words.map((word) => quoted(word, platform))].join(' ');
}

/** The passphrase of a new image comes from a file: a command line is seen by everybody. */
function secretObject(options: FormatOptions): readonly string[] {
  return isEncrypted(options) ? ['--object', `secret,id=${SECRET},file=passphrase.txt`] : [];
}

function optionList(options: FormatOptions): readonly string[] {
  const all = isEncrypted(options) ? { ...options, 'encrypt.key-secret': SECRET } : options;
  // A comma in a value is doubled, as QEMU's option lists have it.
  const said = Object.entries(all).map(([name, value]) => `${name}=${value.replaceAll(',', ',,')}`);
  return said.length === 0 ? [] : ['-o', said.join(',')];
}
