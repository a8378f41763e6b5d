import * as fs from 'node:fs';

/** Where Linux tells how long programs waited for I/O (Documentation/accounting/psi.rst). */
const FILE = '/proc/pressure/io';

/**
 * Microseconds, since the system started, in which at least one program waited for I/O; null where the system does not tell. Two readings
 * and the time between them say how busy the disks are.
 */
export function ioStallMicroseconds(): number | null {
  try {
    const total = /^some .*\btotal=(\d+)/m.exec(fs.readFileSync(FILE, 'latin1'))?.[1];
    return total === undefined ? null : Number(total);
  } catch {
    // Not Linux, or a kernel without pressure stall information.
    return null;
  }
}
