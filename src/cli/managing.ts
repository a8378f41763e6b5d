import { followGate } from '../engine/gate/policies';
import type { ManageContext, ManagedFile } from '../engine/manage/managedImage';
import type { CommandLine, Context } from './commandLine';
import { CommandError } from './errors';
import { fileNameFor } from './guestChain';
import type { ImageArgument } from './imageArguments';

/** An image of the command line as the engine has it. @throws CommandError for what is no file that can be changed */
export function managedFile(image: ImageArgument): ManagedFile {
  if (image.format === 'luks') {
    throw new CommandError(`Could not open '${image.argument}': LUKS volumes are not decrypted by this version`);
  }
  return { filename: fileNameFor(image), format: image.format === 'file' ? 'raw' : image.format };
}

/** What the engine is given to change images from the command line. */
export function manageContext(line: CommandLine, image: ImageArgument, context: Context): ManageContext {
  return {
    gate: followGate('all'),
    currentFolder: process.cwd(),
    passphraseOf: ({ depth }) => (depth === 0 && image.keySecret !== undefined ? passphrase(line, image) : null),
    onProbedRaw: (filename) => {
      context.err.write(
        `WARNING: Image format was not specified for '${filename}' and probing guessed raw.\n` +
          '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
          "         Specify the 'raw' format explicitly to remove the restrictions.\n",
      );
    },
  };
}

function passphrase(line: CommandLine, { argument, keySecret = '' }: ImageArgument): Uint8Array {
  const secret = line.secretOf(keySecret);
  if (!secret) {
    throw new CommandError(`Could not open '${argument}': No secret with id '${keySecret}'`);
  }
  return secret;
}
