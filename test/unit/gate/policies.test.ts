import { describe, expect, test } from 'vitest';
import type { NamedFile } from '../../../src/engine/gate/gate';
import { followGate, type Follow } from '../../../src/engine/gate/policies';

const named = (path: string | null, protocol: string | null, address: string | null = null): NamedFile => ({
  image: '/images/overlay',
  role: 'backing',
  recordedName: 'x',
  path,
  protocol,
  address,
});
const names = {
  plain: named('/x', null),
  json: named('/x', 'json'),
  server: named(null, 'nbd', 'nbd://host:10809'),
  foreign: named(null, 'ssh'),
};

describe('what the command line follows', () => {
  test.each<[Follow | undefined, string[]]>([
    [undefined, ['yes', 'yes', 'yes', 'protocol']],
    ['all', ['yes', 'yes', 'yes', 'protocol']],
    ['local', ['yes', 'notFollowed', 'notFollowed', 'notFollowed']],
    ['none', ['notFollowed', 'notFollowed', 'notFollowed', 'notFollowed']],
  ])('%s', async (follow, expected) => {
    const gate = followGate(follow);
    const answers = [
      await gate.decide(names.plain),
      await gate.decide(names.json),
      await gate.decide(names.server),
      await gate.decide(names.foreign),
    ];
    expect(answers.map((answer) => (answer.allowed ? 'yes' : answer.reason))).toEqual(expected);
  });
});
