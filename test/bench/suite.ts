import type { BenchCase, FigureCase } from './case';
import { checkCases, checkFigures } from './check';
import { convertCases } from './convert';
import { mapCases } from './map';
import { nbdCases, nbdFigures } from './nbd';
import { windowCases } from './window';

/** Everything that `npm run bench` measures, in the order of the report. */
export const ratioCases: readonly BenchCase[] = [...checkCases, ...mapCases, ...convertCases, ...nbdCases];
export const figureCases: readonly FigureCase[] = [...checkFigures, ...nbdFigures, ...windowCases];
