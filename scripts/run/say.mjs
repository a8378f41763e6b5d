/**
 * One line of progress for the person at the terminal.
 *
 * @param {string} step
 */
export function say(step) {
  console.log(`> ${step}`);
}

/**
 * Runs a command's body; what it throws is said without a stack, since it names what to do.
 *
 * @param {() => Promise<void>} body
 */
export async function command(body) {
  try {
    await body();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
