import type { BenchCase, FigureCase } from './case';
import { windowCases } from './window';

/** Everything that `npm run bench` measures, in the order of the report. */
export const ratioCases: readonly BenchCase[] = [];
export const figureCases: readonly FigureCase[] = [...windowCases];
