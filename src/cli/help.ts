/** Somebody asked for a command's help. */
export class HelpRequest extends Error {
  readonly command: string | null;

  constructor(command: string | null) {
    super('help');
    this.command = command;
  }
}

interface CommandHelp {
  readonly usage: string;
  readonly summary: string;
  readonly options: readonly (readonly [option: string, meaning: string])[];
  /** What else there is to know, in lines. */
  readonly notes: readonly string[];
}

const IMAGE: CommandHelp['options'] = [
  ['--image-opts', 'an image is given as options: driver=qcow2,file.filename=disk.qcow2'],
  ['--object DEF', 'accepted for scripts that pass secrets; data is not decrypted by this version'],
  ['-U, --force-share', 'look at an image that another process is writing, without locks'],
  ['-h, --help', 'show this'],
];
const FORMAT = ['-f, --format FMT', 'format of the image: qcow2, qed, raw, vmdk; guessed when not given'] as const;
const OUTPUT = ['--output human|json', 'how to print (human)'] as const;
const FOLLOW = ['--follow none|local|all', 'which files named inside the image are opened (all)'] as const;

const QUIET = ['-q', 'print nothing but errors'] as const;

const IMAGE_OPTS = ['--image-opts', 'an image is given as options: driver=qcow2,file.filename=disk.qcow2'] as const;
const OBJECT = ['--object DEF', 'defines a secret: secret,id=NAME,data=TEXT or secret,id=NAME,file=PATH'] as const;

const HELP = ['-h, --help', 'show this'] as const;

const COMMANDS: Readonly<Record<string, CommandHelp>> = {
  create: {
    usage: '[options] FILE [SIZE]',
    summary: 'make a qcow2, QED or raw image',
    options: [
      ['-f FMT', 'format of the image (raw)'],
      ['-b FILE', 'backing file, as it is recorded: relative to the folder of the image'],
      ['-F FMT', 'format of the backing file'],
      ['-u', 'do not open the backing file'],
      ['-o NAME=VALUE,...', 'options of the format; -o help lists them'],
      QUIET,
      OBJECT,
      HELP,
    ],
    notes: [
      'Without SIZE the disk is as large as that of the backing file. What FILE held before is lost.',
      '-o cache_img_quota=BYTES,backing_file=... makes a qcow2 cache image: what is read through it stays in it,',
      'until its file is that long (docs/cache-image.md).',
    ],
  },
  resize: {
    usage: '[options] FILE [+|-]SIZE',
    summary: 'change the size of a disk',
    options: [
      FORMAT,
      ['--shrink', 'consent to what lies behind a smaller size being lost'],
      ['--preallocation MODE', 'for new space: off, metadata, falloc, full (off)'],
      QUIET,
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: ['The size comes last. Numbers may have a suffix: k, M, G, T, P, E.'],
  },
  snapshot: {
    usage: '[options] FILE',
    summary: 'list, make, apply or delete internal snapshots of a qcow2 image',
    options: [
      ['-l', 'list the snapshots; what is done when nothing else is asked for'],
      ['-c NAME', 'keep the disk as it is'],
      ['-a NAME', 'make the disk what it was; an ID will do'],
      ['-d NAME', 'give a snapshot up'],
      QUIET,
      ['-U, --force-share', 'with -l: look at an image that another process is writing, without locks'],
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: ['What the disk holds when a snapshot is applied is lost, unless another snapshot keeps it.'],
  },
  bitmap: {
    usage: '[options] FILE NAME',
    summary: 'add, change or remove a persistent dirty bitmap of a qcow2 image',
    options: [
      ['--add', 'make it'],
      ['--remove, --clear', 'give it up, or all its marks'],
      ['--enable, --disable', 'whether it records what the guest writes'],
      ['--merge SOURCE', 'mark what another bitmap marks'],
      ['-g N', 'with --add: bytes for each bit'],
      ['-b FILE, -F FMT', 'with --merge: the image of the other bitmap'],
      FORMAT,
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: ['Several actions are done in the order in which they stand.'],
  },
  amend: {
    usage: '[options] -o NAME=VALUE,... FILE',
    summary: 'change options of a qcow2 image',
    options: [
      ['-o NAME=VALUE,...', 'what is to change; -o help lists it'],
      FORMAT,
      ['--force', 'also where a passphrase is lost for good'],
      ['-p', 'show progress'],
      QUIET,
      ['-t CACHE', 'accepted and checked, without effect'],
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: ['What the guest reads stays the same.'],
  },
  measure: {
    usage: '[options] [--size N | FILE]',
    summary: 'tell how large a new image would be',
    options: [
      ['-O FMT', 'format of the new image (raw)'],
      ['-o NAME=VALUE,...', 'options of the new image'],
      ['--size N', 'an empty disk of that size'],
      ['-l SNAPSHOT', 'an internal snapshot of FILE'],
      FORMAT,
      OUTPUT,
      ...IMAGE,
    ],
    notes: ['Numbers may have a suffix: k, M, G, T, P, E.'],
  },
  info: {
    usage: '[options] FILE',
    summary: 'show what an image is: format, sizes, backing file, snapshots, features',
    options: [FORMAT, OUTPUT, ['--backing-chain', 'also every image below it'], FOLLOW, ...IMAGE],
    notes: ['Without --backing-chain no other file is opened.'],
  },
  check: {
    usage: '[options] FILE',
    summary: 'check the consistency of a qcow2 or QED image',
    options: [
      FORMAT,
      OUTPUT,
      ['-q', 'print nothing but errors'],
      ['-p', 'show progress'],
      ['-r leaks|all', 'repair: only what wastes space, or what is corrupt too'],
      ['-T CACHE', 'accepted and checked, without effect'],
      ['--deep', 'decompress every compressed cluster too'],
      ['--strict', 'let findings beyond those of qemu-img count for the exit code'],
      FOLLOW,
      ...IMAGE,
    ],
    notes: ['Exit code: 0 consistent, 1 not checked, 2 corrupt, 3 leaked clusters only, 63 the format has no check.'],
  },
  map: {
    usage: '[options] FILE',
    summary: 'show which file of the chain holds which part of the disk',
    options: [
      FORMAT,
      OUTPUT,
      ['-s, --start-offset N', 'begin at this guest offset'],
      ['-l, --max-length N', 'at most this many bytes'],
      FOLLOW,
      ...IMAGE,
    ],
    notes: ['Numbers may have a suffix: k, M, G, T, P, E.'],
  },
  compare: {
    usage: '[options] FILE1 FILE2',
    summary: 'compare what a guest would read from two images',
    options: [
      ['-f FMT', 'format of the first image'],
      ['-F FMT', 'format of the second image'],
      ['-s', 'strict: sizes and allocation must be the same too'],
      ['-q', 'print nothing but errors'],
      ['-p', 'show progress'],
      ['-T CACHE', 'accepted and checked, without effect'],
      FOLLOW,
      ...IMAGE,
    ],
    notes: ['Exit code: 0 identical, 1 different, 2 an image cannot be opened, 3 allocation cannot be read, 4 data cannot be read.'],
  },
  convert: {
    usage: '[options] FILE [FILE ...] TARGET',
    summary: 'copy what a guest reads from one or several images into another',
    options: [
      ['-f FMT', 'format of the sources; guessed when not given'],
      ['-O FMT', 'format of the target: raw, qcow2, qed (raw)'],
      ['-o NAME=VALUE,...', 'options of the target; -o help lists them'],
      ['-B FILE, -F FMT', 'backing file of the target, and its format: only what differs is copied'],
      ['-c', 'compress (qcow2)'],
      ['-S SIZE', 'zeroes of at least this many bytes become holes (4k); 0 writes everything out'],
      ['-l SNAPSHOT', 'read an internal snapshot: its ID or name'],
      ['-n', 'write a target that is there'],
      ['--target-is-zero', 'a target that is there reads as zero'],
      ['--salvage', 'what cannot be read becomes zeroes'],
      ['--bitmaps', 'copy persistent bitmaps too; --skip-broken-bitmaps leaves out those not stored properly'],
      ['-t CACHE', 'everything but unsafe flushes at the end (unsafe)'],
      ['-p', 'show progress'],
      QUIET,
      ['-m N, -W, -C, -r RATE, -T CACHE', 'accepted as qemu-img has them, without effect'],
      ['--target-image-opts', 'the target is given as options'],
      ...IMAGE,
    ],
    notes: ['Several sources are copied one after the other.'],
  },
  rebase: {
    usage: '[options] FILE',
    summary: 'build an image on another backing file, or on none',
    options: [
      FORMAT,
      ['-b FILE', 'the new backing file, as it is recorded; empty for none'],
      ['-F FMT', 'its format'],
      ['-u', 'only change the record: for a backing file that was moved'],
      ['-p', 'show progress'],
      QUIET,
      ['-t CACHE', 'unsafe does not flush'],
      ['-T CACHE', 'accepted and checked, without effect'],
      ...IMAGE,
    ],
    notes: ['Without -u the guest reads the same as before; with it what the new backing file holds.'],
  },
  commit: {
    usage: '[options] FILE',
    summary: 'copy what an image holds into one that it is built on',
    options: [
      FORMAT,
      ['-b BASE', 'the image of the chain that gets the data; the next one when not given'],
      ['-d', 'do not empty FILE afterwards; -b implies it'],
      ['-p', 'show progress'],
      QUIET,
      ['-t CACHE', 'unsafe does not flush'],
      ['-r RATE', 'accepted as qemu-img has it, without effect'],
      OBJECT,
      HELP,
    ],
    notes: ['Other overlays of the base, and of images between, read something else afterwards.'],
  },
  allocate: {
    usage: '[options] FILE',
    summary: 'give a range of a thin image space of its own',
    options: [
      FORMAT,
      OUTPUT,
      ['--offset BYTES', 'where the range begins (0)'],
      ['--length BYTES', 'how long it is (to the end of the disk)'],
      ['--mode metadata|zero', 'what is empty becomes zeroes with blocks reserved for them, or is written out (zero)'],
      ['-p', 'show progress'],
      QUIET,
      OBJECT,
      IMAGE_OPTS,
      HELP,
    ],
    notes: [
      'What lies in backing files is copied. Afterwards, in either mode, no write to the range fails for want of space, until the',
      'range is discarded or a snapshot is taken; on file systems that write in place, which those that copy on write do not.',
    ],
  },
  allocation: {
    usage: '[options] FILE',
    summary: 'show which ranges have space in the image, where, and which layer supplies the others',
    options: [
      FORMAT,
      OUTPUT,
      ['--offset BYTES', 'where to begin (0)'],
      ['--length BYTES', 'how far to look (to the end of the disk)'],
      FOLLOW,
      ...IMAGE,
    ],
    notes: [],
  },
  trim: {
    usage: '[options] FILE',
    summary: 'give back the space of clusters that hold nothing but zeroes',
    options: [
      FORMAT,
      OUTPUT,
      ['--offset BYTES', 'where to begin (0)'],
      ['--length BYTES', 'how far to look (to the end of the disk)'],
      ['--speed BYTES', 'read at most that much in a second'],
      ['--idle', 'work only while no other program waits for a disk'],
      ['-n, --dry-run', 'only say how much it would be'],
      ['-p', 'show progress'],
      QUIET,
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: [
      'They become zero clusters; raw images, QED and qcow2 version 2 get holes in the file. What the disk reads stays the same.',
      'Space that `allocate` has reserved is given back too. What snapshots share takes space until they are gone.',
    ],
  },
  stream: {
    usage: '[options] FILE',
    summary: 'copy into an image what those hold that it is built on, so that it no longer needs them',
    options: [
      FORMAT,
      ['-b, --base FILE', 'the image of the chain that stays below FILE; none when not given'],
      ['--bottom FILE', 'the lowest image of the chain that is copied, in place of --base'],
      ['--speed BYTES', 'copy at most that much in a second'],
      ['--idle', 'copy only while no other program waits for a disk'],
      ['--offset N, --length N', 'one step: copy that range, leave the backing file as it is, print the offset of the next step'],
      ['-p', 'show progress'],
      OUTPUT,
      QUIET,
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: ['It may be interrupted at any time, and goes on from there when it is called again.'],
  },
  mirror: {
    usage: '[options] FILE TARGET',
    summary: 'copy a disk to a new image',
    options: [
      FORMAT,
      ['-O FMT', 'format of the new image (qcow2)'],
      ['-o NAME=VALUE,...', 'options of the new image'],
      ['--sync full|top', 'all that the disk reads, or only what FILE itself has, on its backing file (full)'],
      ['--speed BYTES', 'copy at most that much in a second'],
      ['--idle', 'copy only while no other program waits for a disk'],
      ['-p', 'show progress'],
      OUTPUT,
      QUIET,
      IMAGE_OPTS,
      OBJECT,
      HELP,
    ],
    notes: ['What TARGET held before is lost.'],
  },
  dd: {
    usage: '[options] if=FILE of=FILE [bs=SIZE] [count=N] [skip=N]',
    summary: 'copy a part of a disk into a new image',
    options: [FORMAT, ['-O FMT', 'format of the new image (raw)'], ...IMAGE],
    notes: ['count and skip count blocks of bs bytes (512); count from the beginning of the disk.'],
  },
  dump: {
    usage: '[options] FILE [STRUCTURE]',
    summary: 'show an on-disk structure field by field, also of an image that does not open',
    options: [
      FORMAT,
      OUTPUT,
      ['-a, --all', 'also table entries that are zero'],
      ['-l, --snapshot ID', "a snapshot's tables, by id or name"],
      ...IMAGE,
    ],
    notes: [
      'STRUCTURE is header, extensions, luks, snapshots, bitmaps, or a table: l1, l2, refcount-table, refcounts, bitmap-table;',
      'l2:5 is the L2 table of L1 entry 5, refcounts:5 the block of refcount table entry 5, bitmap-table:0 the first bitmap.',
      'Without it, everything but the tables. No other file is opened.',
    ],
  },
  nbd: {
    usage: '[options] FILE',
    summary: 'serve an image to NBD clients',
    options: [
      FORMAT,
      ['-r, --read-only', 'clients only read'],
      ['-k, --socket PATH', 'listen on a Unix socket'],
      ['-p, --port PORT', 'listen on a TCP port (10809)'],
      ['-b, --bind ADDRESS', 'listen there; only this machine can reach the server when not given (127.0.0.1)'],
      ['-t, --persistent', 'go on when the last client has gone'],
      ['-e, --shared N', 'serve N clients at a time, others wait (1); 0 is no limit'],
      ['-x, --export-name NAME', 'name of the export (empty)'],
      ['-D, --description TEXT', 'tell clients what the export is'],
      ['-l, --load-snapshot SNAPSHOT', 'serve an internal snapshot, read-only: an ID or name, or snapshot.id=ID,snapshot.name=NAME'],
      ['-A, --allocation-depth', 'let clients ask which image of the chain holds what'],
      ['-B, --bitmap NAME', 'let clients ask what a persistent bitmap says'],
      ['--copy-on-read', 'copy what is read from backing files into the image'],
      ['--discard unmap|ignore', 'what clients give up is given back to the file system, or kept (ignore)'],
      ['--detect-zeroes on|off|unmap', 'zeroes that clients write become zeroes that take no room; unmap: also where room was taken'],
      ['--tls-creds ID', 'serve only clients with TLS; ID of --object tls-creds-x509,id=ID,endpoint=server,dir=FOLDER'],
      ['-L, --list', 'tell what a server offers (-k, or -b and -p) instead of serving'],
      ['--tls-hostname NAME', "with --list, the name that the server's certificate must have"],
      ['--fork', 'serve in the background; ends when clients can come'],
      ['--pid-file PATH', 'write the process ID of the server there'],
      ['--cache, --aio MODE, -n', 'accepted as qemu-nbd has them, without effect'],
      ...IMAGE,
    ],
    notes: ['The server ends with the last client, unless -t is given, or by a signal; the image is closed cleanly.'],
  },
  locate: {
    usage: '[options] FILE ADDRESS',
    summary: 'translate between guest and host offsets, down the whole chain',
    options: [FORMAT, OUTPUT, FOLLOW, ...IMAGE],
    notes: [
      'ADDRESS is a guest offset (4G, 0x1f0000, 1M+512), an offset in the file (h:64K), or a cluster of either (c:1024, hc:16).',
      "A '>' marks the layer that supplies the data.",
    ],
  },
};

export function isCommand(name: string): boolean {
  return Object.hasOwn(COMMANDS, name) || name === 'help';
}

/** Help for a command, or for the program as a whole. */
export function helpText(program: string, command: string | null): string {
  const help = command === null ? undefined : COMMANDS[command];
  return help && command !== null ? commandHelp(program, command, help) : programHelp(program);
}

function programHelp(program: string): string {
  const commands = Object.entries(COMMANDS).map(([name, { summary }]) => [name, summary] as const);
  return [
    `usage: ${program} COMMAND [options] ...`,
    'Inspect, make and change disk images and their backing chains.',
    '',
    table([...commands, ['help', 'show how a command is used']]),
    '',
    table([
      ['-h, --help', 'show this'],
      ['-V, --version', 'show the version'],
      ['-T, --trace', 'accepted as qemu-img has it, without effect'],
    ]),
    '',
    `'${program} help COMMAND' tells more. Commands that qemu-img has too take its options and give its results.`,
    '',
  ].join('\n');
}

function commandHelp(program: string, name: string, { usage, summary, options, notes }: CommandHelp): string {
  return [
    `usage: ${program} ${name} ${usage}`,
    `${summary[0]?.toUpperCase() ?? ''}${summary.slice(1)}.`,
    '',
    table(options),
    '',
    ...notes,
    '',
  ].join('\n');
}

function table(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`).join('\n');
}
