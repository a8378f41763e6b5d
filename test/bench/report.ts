import * as os from 'node:os';

import type { BenchCase, FigureCase } from './case';

export interface RatioResult {
  readonly bench: BenchCase;
  readonly oursMs: number;
  readonly peerMs: number;
  readonly ratio: number;
  readonly runs: number;
}

export interface FigureResult {
  readonly figure: FigureCase;
  readonly value: number;
  readonly runs: number;
}

/**
 * The text of docs/benchmarks.md.
 * @param failed names of what could not be measured
 */
export function report(ratios: readonly RatioResult[], figures: readonly FigureResult[], failed: readonly string[], peer: string): string {
  const cpu = os.cpus();
  const lines = [
    '# Benchmarks',
    '',
    'Written by `npm run bench`. Ratios are wall time of ours / of the peer on the same input, run in turn in one run; medians; process start',
    'included; the page cache is warm unless a row says otherwise. Below 1 is faster.',
    '',
    `- Machine: ${cpu[0]?.model.trim() ?? 'unknown processor'}, ${cpu.length} logical processors, ${Math.round(os.totalmem() / 2 ** 30)} GiB, ${os.type()} ${os.release()}`,
    `- Node ${process.versions.node}; peer: ${peer}`,
    '',
    '| what | ours | peer | ratio | aim | |',
    '|---|---:|---:|---:|---:|---|',
    ...ratios.map(
      ({ bench, oursMs, peerMs, ratio }) =>
        `| ${bench.name} | ${oursMs.toFixed(1)} ms | ${peerMs.toFixed(1)} ms | ${ratio.toFixed(3)} | ${bench.target ?? '-'} | ${verdict(bench.target, ratio <= (bench.target ?? Infinity))} |`,
    ),
    '',
    '| what | measured | aim | |',
    '|---|---:|---:|---|',
    ...figures.map(({ figure, value }) => {
      const { name, unit, target } = figure;
      // What is shown is what is judged.
      const shown = value.toFixed(unit === 'bytes' ? 0 : 1);
      return `| ${name} | ${shown} ${unit} | ${target === null ? '-' : `${target} ${unit}`} | ${verdict(target, meets(figure, Number(shown)))} |`;
    }),
    '',
    ...failed.map((name) => `Not measured, since it failed: ${name}.\n`),
    '## Commands',
    '',
    ...ratios.flatMap(({ bench, runs }) =>
      bench.commands ? [`- ${bench.name} (${runs} runs each): \`${bench.commands.ours}\` against \`${bench.commands.peer}\``] : [],
    ),
    '',
  ];
  return lines.join('\n');
}

function meets(figure: FigureCase, value: number): boolean {
  if (figure.target === null) {
    return true;
  }
  return figure.unit.endsWith('/s') ? value >= figure.target : value <= figure.target;
}

function verdict(target: number | null, met: boolean): string {
  return target === null ? '' : met ? 'met' : '**falls short**';
}
