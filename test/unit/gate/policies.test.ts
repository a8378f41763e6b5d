import { describe, expect, test } from 'vitest';
import type { NamedFile } from '../../../src/engine/gate/gate';
import { followGate, type Follow } from '../../../src/engine/gate/policies';

const named = (path: string | null, protocol: string | null): NamedFile => ({
  image: '/images/overlay',
  role: 'backing',
  recordedName: 'x',
  path,
  protocol,
});
const names = { plain: named('/x', null), json: named('/x', 'json'), network: named(null, 'nbd') };

describe('what the command line follows', () => {
  test.each<[Follow | undefined, string[]]>([
    [undefined, ['yes', 'yes', 'protocol']],
    ['all', ['yes', 'yes', 'protocol']],
    ['local', ['yes', 'notFollowed', 'notFollowed']],
    ['none', ['notFollowed', 'notFollowed', 'notFollowed']],
  ])('%s', async (follow, expected) => {
    const gate = followGate(follow);
    const answers = [await gate.decide(names.plain), await gate.decide(names.json), await gate.decide(names.network)];
    expect(answers.map((answer) => (answer.allowed ? 'yes' : answer.reason))).toEqual(expected);
  });
});
