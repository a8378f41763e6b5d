import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';

import type { BenchCase, FigureCase } from './case';
import { report, type FigureResult, type RatioResult } from './report';
import { figureCases, ratioCases } from './suite';

/*
 * `npm run bench [-- --only TEXT] [-- --runs N]`: measures, prints, and (unless told to leave something out) writes docs/benchmarks.md.
 */

const MINIMUM_RUNS = 5;

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

async function runRatio(bench: BenchCase, folder: string, runs: number): Promise<RatioResult> {
  await bench.prepare(folder);
  const ours: number[] = [];
  const peer: number[] = [];
  // One round to fill the page cache, not counted; then in turn, so that whatever the machine does hits both.
  await bench.ours();
  await bench.peer();
  for (let round = 0; round < runs; round++) {
    ours.push(await bench.ours());
    peer.push(await bench.peer());
  }
  return { bench, oursMs: median(ours), peerMs: median(peer), ratio: median(ours) / median(peer), runs };
}

async function runFigure(figure: FigureCase, folder: string, runs: number): Promise<FigureResult> {
  try {
    await figure.prepare(folder);
    const values: number[] = [];
    for (let round = 0; round < runs; round++) {
      values.push(await figure.measure());
    }
    return { figure, value: median(values), runs };
  } finally {
    await figure.finish?.();
  }
}

function option(name: string): string | undefined {
  const index = process.argv.indexOf(name);
  return index < 0 ? undefined : process.argv[index + 1];
}

function peerVersion(): string {
  return execFileSync('qemu-img', ['--version'], { encoding: 'utf8' }).split('\n')[0] ?? '';
}

async function main(): Promise<void> {
  const only = option('--only');
  const runs = Math.max(MINIMUM_RUNS, Number(option('--runs') ?? MINIMUM_RUNS));
  const wanted = ({ name }: { name: string }) => !only || name.includes(only);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'chainscope-bench-'));
  const ratios: RatioResult[] = [];
  const figures: FigureResult[] = [];
  const failed: string[] = [];
  /** One case that fails costs its own row; what is measured is written down at once. */
  const measure = async (name: string, work: () => Promise<string>) => {
    try {
      console.log(`${name}: ${await work()}`);
    } catch (error) {
      failed.push(name);
      console.error(`${name}: not measured:`, error);
    }
    if (!only) {
      fs.writeFileSync(path.resolve('docs', 'benchmarks.md'), report(ratios, figures, failed, peerVersion()));
    }
  };
  const aim = (target: number | null) => (target === null ? '' : ` (aim ${target})`);
  try {
    for (const bench of ratioCases.filter(wanted)) {
      await measure(bench.name, async () => {
        const result = await runRatio(bench, folder, runs);
        ratios.push(result);
        return `${result.oursMs.toFixed(1)} ms / ${result.peerMs.toFixed(1)} ms = ${result.ratio.toFixed(3)}${aim(bench.target)}`;
      });
    }
    for (const figure of figureCases.filter(wanted)) {
      await measure(figure.name, async () => {
        const result = await runFigure(figure, folder, runs);
        figures.push(result);
        return `${result.value.toFixed(1)} ${figure.unit}${aim(figure.target)}`;
      });
    }
    process.exitCode = failed.length > 0 ? 1 : 0;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

await main();
