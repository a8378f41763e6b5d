import { describe, expect, it } from 'vitest';

import type { GateQuestion } from '../../../src/protocol/engine';
import { DecisionStore, type StateStore } from '../../../src/shell/trust/decisionStore';
import { contains, decide, type Surroundings } from '../../../src/shell/trust/policy';

const WORKSPACE: Surroundings = { trusted: true, folders: ['/ws/space'] };

function question(over: Partial<GateQuestion> = {}): GateQuestion {
  return {
    image: '/ws/space/top.qcow2',
    role: 'backing',
    recordedName: 'base.qcow2',
    path: '/ws/space/base.qcow2',
    protocol: null,
    address: null,
    ...over,
  };
}

function memory(initial?: unknown): StateStore & { value: unknown } {
  return {
    value: initial,
    get() {
      return this.value;
    },
    update(_, value) {
      this.value = value;
      return Promise.resolve();
    },
  };
}

const NOTHING = new DecisionStore(memory());

describe('the opening gate', () => {
  it.each<[string, Partial<GateQuestion>, Surroundings, string | null]>([
    ['a file in the workspace', {}, WORKSPACE, null],
    ['a file in a folder of the workspace', { path: '/ws/space/a/b/base.qcow2' }, WORKSPACE, null],
    ['a file in a second workspace folder', { path: '/other/x' }, { trusted: true, folders: ['/ws/space', '/other'] }, null],
    ['a file beside the workspace', { path: '/ws/base.qcow2' }, WORKSPACE, 'outsideWorkspace'],
    ['a file in a folder that is called alike', { path: '/ws/space2/base.qcow2' }, WORKSPACE, 'outsideWorkspace'],
    ['a file whose path climbs out', { path: '/ws/space/../base.qcow2' }, WORKSPACE, 'outsideWorkspace'],
    ['a name in a folder called ..x', { path: '/ws/space/..x/base.qcow2' }, WORKSPACE, null],
    ['a file of an untrusted workspace', {}, { ...WORKSPACE, trusted: false }, 'untrustedWorkspace'],
    ['a file in a window without a folder', {}, { trusted: true, folders: [] }, 'outsideWorkspace'],
    ['an NBD server', { path: null, protocol: 'nbd', address: 'nbd://host:10809' }, WORKSPACE, 'network'],
    ['a web address', { path: null, protocol: 'HTTPS' }, WORKSPACE, 'network'],
    [
      'a server of an untrusted workspace',
      { path: null, protocol: 'nbd', address: 'nbd://host:10809' },
      { ...WORKSPACE, trusted: false },
      'untrustedWorkspace',
    ],
    ['an unknown protocol', { path: null, protocol: 'blkdebug' }, WORKSPACE, 'protocol'],
    ['a json: name of a file in the workspace', { protocol: 'json' }, WORKSPACE, 'protocol'],
    ['a name that is no file name', { path: null }, WORKSPACE, 'protocol'],
  ])('decides about %s', (_, over, surroundings, reason) => {
    expect(decide(question(over), surroundings, NOTHING)).toEqual({ allowed: reason === null, reason });
  });

  describe('with a grant', () => {
    const outside = question({ path: '/elsewhere/base.qcow2', recordedName: '/elsewhere/base.qcow2' });
    const decisions = new DecisionStore(memory());

    it('opens this file for this image, and nothing else', async () => {
      await decisions.add({ kind: 'grant', image: outside.image, target: '/elsewhere/base.qcow2' });
      const answers = [
        outside,
        { ...outside, protocol: 'json' },
        { ...outside, path: '/elsewhere/other.qcow2' },
        { ...outside, image: '/ws/space/second.qcow2' },
      ].map((each) => decide(each, WORKSPACE, decisions).allowed);
      expect(answers).toEqual([true, true, false, false]);
    });

    it('contacts this server for this image, and no other', async () => {
      const server = question({ path: null, protocol: 'nbd', address: 'nbd://host:10809/disk' });
      await decisions.add({ kind: 'grant', image: server.image, target: 'nbd://host:10809/disk' });
      const answers = [server, { ...server, address: 'nbd://host:10809/other' }, { ...server, image: '/ws/space/second.qcow2' }].map(
        (each) => decide(each, WORKSPACE, decisions).reason,
      );
      expect(answers).toEqual([null, 'network', 'network']);
      expect(decide(server, { ...WORKSPACE, trusted: false }, decisions).reason).toBe('untrustedWorkspace');
    });

    it('opens nothing in an untrusted workspace, and no network address', () => {
      expect(decide(outside, { ...WORKSPACE, trusted: false }, decisions).reason).toBe('untrustedWorkspace');
      expect(decide({ ...outside, protocol: 'nbd' }, WORKSPACE, decisions).reason).toBe('network');
    });

    it('opens nothing any more when it is taken back', async () => {
      await decisions.remove(decisions.all);
      expect(decide(outside, WORKSPACE, decisions).reason).toBe('outsideWorkspace');
    });
  });

  it('opens the located file in place of the named one', async () => {
    const decisions = new DecisionStore(memory());
    const { image, recordedName } = question();
    await decisions.add({ kind: 'replacement', image, recordedName, target: '/found/first.qcow2' });
    await decisions.add({ kind: 'replacement', image, recordedName, target: '/found/base.qcow2' });
    expect(decisions.all).toHaveLength(1);
    expect(decide(question(), WORKSPACE, decisions)).toEqual({ allowed: true, reason: null, replacement: '/found/base.qcow2' });
    expect(decide(question({ recordedName: 'other.qcow2' }), WORKSPACE, decisions)).toEqual({ allowed: true, reason: null });
    expect(decide(question(), { ...WORKSPACE, trusted: false }, decisions).allowed).toBe(false);
  });

  it('makes nothing of a damaged store', () => {
    const grant = { kind: 'grant', image: '/a', target: '/b' };
    const damaged = [null, 1, 'x', {}, { ...grant, target: 5 }, { ...grant, kind: 'all' }, { ...grant, kind: 'replacement' }, grant];
    expect(new DecisionStore(memory(damaged)).all).toEqual([grant]);
    expect(new DecisionStore(memory({ 0: grant })).all).toEqual([]);
  });
});

describe('lying in a folder', () => {
  it.each([
    ['/a', '/a/b', true],
    ['/a', '/a', false],
    ['/a', '/ab', false],
    ['/a/b', '/a', false],
    ['/', '/a', true],
  ])('%s contains %s: %s', (folder, file, expected) => expect(contains(folder, file)).toBe(expected));
});
