import { version } from '../../package.json';

export { version };

/** What messages begin with. A wrapper that stands in for qemu-img sets CHAINSCOPE_ARGV0 to the name it was called by. */
export function programName(): string {
  const called = process.env['CHAINSCOPE_ARGV0'] ?? '';
  return called.slice(called.lastIndexOf('/') + 1) || 'chainscope';
}
