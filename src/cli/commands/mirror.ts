import { knownFormat } from '../../engine/manage/formats';
import { CommandLine, FORMAT, OUTPUT, type Context } from '../commandLine';
import { CommandError } from '../errors';
import { readFormatOptions } from '../formatOptions';
import { PACE, PROGRESS } from '../jobOptions';
import { jobImage, readSettings, runJob } from '../jobs';

/** `mirror`: copies a disk to a new image, all that it reads or only what the image itself has. Exit code 0, 1, or 130 when it was interrupted. */
export async function mirror(args: readonly string[], context: Context): Promise<number> {
  const line = CommandLine.read(
    {
      command: 'mirror',
      options: [
        FORMAT,
        OUTPUT,
        { name: 'target-format', short: 'O', argument: true },
        { name: 'options', short: 'o', argument: true },
        { name: 'sync', long: 'sync', argument: true },
        ...PACE,
        ...PROGRESS,
      ],
      without: ['force-share'],
      operands: [2, 2],
      expecting: 'Expecting an image file name and that of the copy',
    },
    args,
    context,
  );
  const output = line.output();
  const sync = line.value('sync') ?? 'full';
  if (sync !== 'full' && sync !== 'top') {
    throw new CommandError('--sync must be used with full or top as argument.');
  }
  const image = line.image(0);
  const targetFormat = knownFormat(line.value('target-format') ?? 'qcow2');
  if (targetFormat === 'vmdk') {
    throw new CommandError("Format driver 'vmdk' does not support image creation");
  }
  const options = readFormatOptions(line.all('options'));
  await runJob(
    { type: 'mirror', image: await jobImage(line, image, context), target: line.operands[1]!, targetFormat, options, sync },
    readSettings(line, context),
    image,
    line,
    context,
  );
  if (output === 'human' && !line.has('quiet')) {
    context.out.write('Image mirrored.\n');
  }
  return 0;
}
