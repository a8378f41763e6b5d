import { cacheFigures } from './cache';
import type { BenchCase, FigureCase } from './case';
import { checkCases, checkFigures } from './check';
import { commitCases } from './commit';
import { convertCases } from './convert';
import { jobCases, jobFigures } from './jobs';
import { mapCases } from './map';
import { nbdCases, nbdFigures } from './nbd';
import { windowCases } from './window';

/** Everything that `npm run bench` measures, in the order of the report. */
export const ratioCases: readonly BenchCase[] = [...checkCases, ...mapCases, ...convertCases, ...commitCases, ...nbdCases, ...jobCases];
export const figureCases: readonly FigureCase[] = [...checkFigures, ...nbdFigures, ...jobFigures, ...cacheFigures, ...windowCases];
