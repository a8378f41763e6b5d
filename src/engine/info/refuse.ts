import { invalidFormat } from '../errors';
import type { Problem } from '../formats/problem';
import type { ByteSource } from '../io/source';

/** @throws EngineError `format.invalid` for the first problem that is an error */
export function refuse(source: ByteSource, problems: readonly Problem[]): void {
  const problem = problems.find(({ severity }) => severity === 'error');
  if (problem) {
    throw invalidFormat(source.name, problem.structure, problem.hostOffset, problem.message);
  }
}
