import { tmpdir } from 'node:os';
import * as path from 'node:path';
import * as vscode from 'vscode';

import type { ExportAddress, ExportInfo, ExportTls } from '../../protocol/exports';
import { counted } from '../chains/wording';
import type { ManageParts } from '../commands/manage/parts';
import { chooseSubject, chooseWritable, dependentNames, listed, type Subject, type WritableSubject } from '../commands/manage/subject';
import { runWizard, type Step } from '../commands/manage/wizard';
import { askPermission, tellInformation } from '../messages';
import { metadataCacheBytes, nbdListenAddress, nbdTls } from '../settings';
import { plainText } from '../text/plain';
import { requireTrust } from '../trust/required';
import { isLoopback, portProblem, socketPathProblem } from './exportRows';
import type { ExportsView } from './exportsView';

/** NBD's own port. */
const NBD_PORT = 10_809;

interface NewExport {
  readonly writable: boolean;
  readonly kind: ExportAddress['kind'];
  readonly socketPath: string;
  readonly port: number;
  readonly tls: ExportTls | null;
}

const NO_COPY_ON_READ = 'Copy-on-read is for writable exports of images with a backing file; there is none where it could be switched.';

const COPY_URI = 'Copy URI';

/** *Start NBD Export…*: serves an image, with its whole chain, to whoever connects. */
export async function startExport(parts: ManageParts, argument: unknown): Promise<void> {
  if (!(await requireTrust('In a workspace that is not trusted, no image is served.'))) {
    return;
  }
  const image = await chooseSubject(parts, argument);
  if (image === null) {
    return;
  }
  const host = nbdListenAddress();
  const tls = nbdTls();
  const hasSockets = process.platform !== 'win32';
  const initial: NewExport = {
    writable: false,
    kind: hasSockets ? 'unix' : 'tcp',
    socketPath: socketPathFor(image.name),
    port: NBD_PORT,
    tls,
  };
  const askAccess: Step<NewExport> = {
    ask: async (page, answers) => ({
      ...answers,
      writable: await page.pick({
        placeholder: 'What clients may do',
        choices: [
          { label: 'Read', description: 'default', detail: 'Nobody changes the image.', value: false },
          { label: 'Read and write', detail: 'What clients write goes into the image.', value: true },
        ],
        current: answers.writable,
      }),
    }),
  };
  const askKind: Step<NewExport> = {
    when: () => hasSockets,
    ask: async (page, answers) => ({
      ...answers,
      kind: await page.pick<ExportAddress['kind']>({
        placeholder: 'Where it listens',
        choices: [
          { label: 'Unix socket', description: 'default', detail: 'A file that only you can connect to.', value: 'unix' },
          {
            label: `TCP port on ${host}`,
            detail: isLoopback(host)
              ? 'Every program on this machine can connect.'
              : 'Whoever reaches this address can connect: NBD asks for no password.',
            value: 'tcp',
          },
        ],
        current: answers.kind,
      }),
    }),
  };
  const askPath: Step<NewExport> = {
    when: ({ kind }) => kind === 'unix',
    ask: async (page, answers) => ({
      ...answers,
      socketPath: await page.text({
        prompt: 'Path of the socket',
        value: answers.socketPath,
        check: (text) => errorOf(socketPathProblem(text)),
      }),
    }),
  };
  const askPort: Step<NewExport> = {
    when: ({ kind }) => kind === 'tcp',
    ask: async (page, answers) => ({
      ...answers,
      port: Number(
        await page.text({
          prompt: `Port on ${host}; 0 lets the system choose`,
          value: String(answers.port),
          check: (text) => errorOf(portProblem(text)),
        }),
      ),
    }),
  };
  const askTls: Step<NewExport> = {
    when: ({ kind }) => kind === 'tcp' && tls !== null,
    ask: async (page, answers) => ({
      ...answers,
      tls: await page.pick<ExportTls | null>({
        placeholder: 'Whether what goes through is encrypted',
        choices: [
          {
            label: 'TLS',
            description: 'default',
            detail: tls?.verifyClients === true ? 'Only clients with a certificate of yours are served.' : 'Whoever connects is served.',
            value: tls,
          },
          { label: 'No encryption', detail: 'For clients that know no TLS.', value: null },
        ],
        current: answers.tls,
      }),
    }),
  };
  const answers = await runWizard(`NBD Export of ${image.name}`, initial, [askAccess, askKind, askPath, askPort, askTls]);
  const withoutLocks = answers === null ? null : await mayServe(parts, image, answers, host);
  if (answers === null || withoutLocks === null) {
    return;
  }
  const { path: file, format } = image;
  const info = await parts.passphrases.unlocking(() =>
    parts.engine.startExport({
      path: file,
      format,
      name: '',
      writable: answers.writable,
      address: answers.kind === 'unix' ? { kind: 'unix', path: answers.socketPath } : { kind: 'tcp', host, port: answers.port },
      // `mayServe` has asked.
      allowRemote: answers.kind === 'tcp' && !isLoopback(host),
      tls: answers.kind === 'tcp' ? answers.tls : null,
      withoutLocks,
      cacheBytes: metadataCacheBytes(),
    }),
  );
  parts.log.info(`Serving '${file}' at ${info.uri}`);
  await vscode.commands.executeCommand('chainscope.exports.focus');
  if ((await tellInformation(`${image.name} is served at ${info.uri}`, COPY_URI)) === COPY_URI) {
    await copyUri(info);
  }
}

/** *Stop NBD Export*: those that are connected lose their disk; what they wrote is in the image. */
export async function stopExport({ engine, view, log }: ManageParts, exportsView: ExportsView, argument: unknown): Promise<void> {
  const info = await chooseExport(exportsView, argument);
  if (info === null) {
    return;
  }
  const name = plainText(path.basename(info.path));
  const agreed =
    info.clients === 0 ||
    (await askPermission(
      `Stop serving ${name}?`,
      [
        `${counted(info.clients, 'client')} would lose the disk.`,
        ...(info.writable ? ['What was written so far stays in the image.'] : []),
      ],
      'Stop',
    ));
  if (agreed) {
    await engine.stopExport(info.id);
    log.info(`'${info.path}' is no longer served at ${info.uri}`);
    await view.reread([info.path]);
  }
}

/** *Turn On Copy-on-Read* and *Turn Off Copy-on-Read* of an export, also while a guest uses it. */
export async function switchCopyOnRead(
  { engine, log }: ManageParts,
  exportsView: ExportsView,
  argument: unknown,
  on: boolean,
): Promise<void> {
  const info = await chooseExport(exportsView, argument, ({ copyOnRead }) => copyOnRead !== null && copyOnRead.on !== on);
  if (info !== null) {
    await engine.setCopyOnRead(info.id, on);
    log.info(`Copy-on-read of '${info.path}' at ${info.uri} is ${on ? 'on' : 'off'}`);
  }
}

/** *Copy URI* of an export. */
export async function copyExportUri(exportsView: ExportsView, argument: unknown): Promise<void> {
  const info = await chooseExport(exportsView, argument);
  if (info !== null) {
    await copyUri(info);
  }
}

async function chooseExport(
  exportsView: ExportsView,
  argument: unknown,
  fits: (info: ExportInfo) => boolean = () => true,
): Promise<ExportInfo | null> {
  if (!exportsView.exports.some(fits)) {
    void tellInformation(exportsView.exports.length === 0 ? 'This window serves no image.' : NO_COPY_ON_READ);
    return null;
  }
  return exportsView.choose(argument, fits);
}

async function copyUri({ uri }: ExportInfo): Promise<void> {
  await vscode.env.clipboard.writeText(uri);
  vscode.window.setStatusBarMessage('$(copy) Copied the URI', 3_000);
}

/** Whether locks are done without; null when it is not to be served after all. */
async function mayServe(parts: ManageParts, image: Subject, { writable, kind, tls }: NewExport, host: string): Promise<boolean | null> {
  let withoutLocks = false;
  if (writable) {
    const subject: WritableSubject | null = await chooseWritable(parts, vscode.Uri.file(image.path), ['qcow2', 'qed', 'raw']);
    if (subject === null) {
      return null;
    }
    withoutLocks = subject.withoutLocks;
    const dependents = await dependentNames(parts, image.path);
    const question = `Let clients write ${image.name}, on which other images build?`;
    if (
      dependents.length > 0 &&
      !(await askPermission(question, ['These would break with the first write:', listed(dependents)], 'Serve It'))
    ) {
      return null;
    }
  }
  if (kind === 'tcp' && !isLoopback(host)) {
    const detail = [
      `The setting Chainscope › Nbd: Listen Address is ${plainText(host)}. ${exposure(tls)} can read the disk${writable ? ' and write it' : ''}.`,
    ];
    return (await askPermission(`Serve ${image.name} beyond this machine?`, detail, 'Serve It')) ? withoutLocks : null;
  }
  return withoutLocks;
}

function exposure(tls: ExportTls | null): string {
  if (tls === null) {
    return 'NBD asks for no password and nothing is encrypted: whoever reaches that address';
  }
  return tls.verifyClients
    ? 'Whoever reaches that address with a certificate of yours'
    : 'What goes through is encrypted, but NBD asks for no password: whoever reaches that address';
}

function socketPathFor(name: string): string {
  const folder = process.env['XDG_RUNTIME_DIR'] ?? tmpdir();
  const stem = name.replace(/[^\w.-]/g, '_').slice(0, 40);
  return path.join(folder, `chainscope-${process.pid}-${stem}.sock`);
}

function errorOf(message: string | null): { message: string; isError: true } | null {
  return message === null ? null : { message, isError: true };
}
