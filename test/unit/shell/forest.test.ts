import { describe, expect, it } from 'vitest';

import { buildForest, nodesOfImage, type Forest, type ForestNode } from '../../../src/shell/chains/forest';
import { compareForests } from '../../../src/shell/chains/forestDiff';
import { tailsOf } from '../../../src/shell/chains/tails';
import { active, backing, dataFile, image, known, notOpen } from './chainFixtures';

/** The forest as an outline: one line per row, indented by depth. */
function outline({ roots }: Forest): string[] {
  const lines: string[] = [];
  const walk = (node: ForestNode, depth: number): void => {
    lines.push('  '.repeat(depth) + nameOf(node));
    for (const child of node.children) {
      walk(child, depth + 1);
    }
  };
  for (const root of roots) {
    walk(root, 0);
  }
  return lines;
}

function nameOf(node: ForestNode): string {
  switch (node.kind) {
    case 'image':
      return `${node.path ?? node.link.recordedName} (${[node.link.role, node.link.state.kind, ...(node.isBase ? ['base'] : [])].join(' ')})`;
    case 'failed':
      return `${node.path} failed`;
    case 'snapshot':
      return node.snapshot.name;
    case 'bitmap':
      return node.bitmap.name;
    case 'overlay':
      return node.overlay;
    case 'snapshots':
    case 'bitmaps':
    case 'overlays':
      return node.kind;
  }
}

describe('the forest of chains', () => {
  it('has the active layer as its root and the chain below it, base last', () => {
    const forest = buildForest([
      known(active('/w/base.qcow2')),
      known(active('/w/mid.qcow2'), backing('/w/base.qcow2')),
      known(active('/w/top.qcow2'), backing('/w/mid.qcow2', { backingName: 'base.qcow2' }), backing('/w/base.qcow2')),
    ]);
    expect(outline(forest)).toEqual(['/w/top.qcow2 (active open)', '  /w/mid.qcow2 (backing open)', '  /w/base.qcow2 (backing open base)']);
  });

  it('sorts roots as a person does', () => {
    const forest = buildForest([known(active('/w/disk10.qcow2')), known(active('/w/Disk2.qcow2')), known(active('/w/disk1.qcow2'))]);
    expect(outline(forest).map((line) => line.split(' ')[0])).toEqual(['/w/disk1.qcow2', '/w/Disk2.qcow2', '/w/disk10.qcow2']);
  });

  it('counts and lists the overlays of a shared base under each chain', () => {
    const forest = buildForest([
      known(active('/w/base.qcow2')),
      ...['a', 'b', 'c'].map((name) => known(active(`/w/${name}.qcow2`), backing('/w/base.qcow2'))),
    ]);
    expect(outline(forest)).toEqual(
      ['a', 'b', 'c'].flatMap((name) => [
        `/w/${name}.qcow2 (active open)`,
        '  /w/base.qcow2 (backing open base)',
        '    overlays',
        '      /w/a.qcow2',
        '      /w/b.qcow2',
        '      /w/c.qcow2',
      ]),
    );
    const base = forest.roots[0]?.children[0];
    expect(base?.kind === 'image' && base.overlays).toEqual(['/w/a.qcow2', '/w/b.qcow2', '/w/c.qcow2']);
  });

  it('shows a missing base, and counts its overlays', () => {
    const missing = notOpen('/w/gone.qcow2', { kind: 'missing' });
    const forest = buildForest([known(active('/w/a.qcow2'), missing), known(active('/w/b.qcow2'), missing)]);
    expect(outline(forest)).toEqual([
      '/w/a.qcow2 (active open)',
      '  /w/gone.qcow2 (backing missing)',
      '    overlays',
      '      /w/a.qcow2',
      '      /w/b.qcow2',
      '/w/b.qcow2 (active open)',
      '  /w/gone.qcow2 (backing missing)',
      '    overlays',
      '      /w/a.qcow2',
      '      /w/b.qcow2',
    ]);
  });

  it('shows a ring of images once, from the first of them', () => {
    const loopTo = (path: string) => notOpen(path, { kind: 'loop' });
    const forest = buildForest([
      known(active('/w/b.qcow2'), backing('/w/c.qcow2'), backing('/w/a.qcow2'), loopTo('/w/b.qcow2')),
      known(active('/w/a.qcow2'), backing('/w/b.qcow2'), backing('/w/c.qcow2'), loopTo('/w/a.qcow2')),
      known(active('/w/c.qcow2'), backing('/w/a.qcow2'), backing('/w/b.qcow2'), loopTo('/w/c.qcow2')),
    ]);
    expect(outline(forest)).toEqual([
      '/w/a.qcow2 (active open)',
      '  /w/b.qcow2 (backing open)',
      '  /w/c.qcow2 (backing open)',
      '  /w/a.qcow2 (backing loop)',
    ]);
  });

  it('shows an image that overlays itself, and an overlay of a ring', () => {
    const itself = buildForest([known(active('/w/a.qcow2'), notOpen('/w/a.qcow2', { kind: 'loop' }))]);
    expect(outline(itself)).toEqual(['/w/a.qcow2 (active open)', '  /w/a.qcow2 (backing loop)']);

    const above = buildForest([
      known(active('/w/a.qcow2'), backing('/w/b.qcow2'), notOpen('/w/a.qcow2', { kind: 'loop' })),
      known(active('/w/b.qcow2'), backing('/w/a.qcow2'), notOpen('/w/b.qcow2', { kind: 'loop' })),
      known(active('/w/x.qcow2'), backing('/w/a.qcow2'), backing('/w/b.qcow2'), notOpen('/w/a.qcow2', { kind: 'loop' })),
    ]);
    expect(outline(above).filter((line) => !line.startsWith(' '))).toEqual(['/w/x.qcow2 (active open)']);
  });

  it('puts data files, snapshots and bitmaps under the image they belong to', () => {
    const snapshot = { index: 0, id: '1', name: 'before', dateMs: 0, vmStateSize: 0, diskSize: 0 };
    const bitmap = { index: 0, name: 'backup', granularity: 65_536, inUse: false, auto: true };
    const forest = buildForest([
      known(
        active('/w/top.qcow2', { bitmaps: [bitmap] }),
        dataFile('/w/top.data'),
        backing('/w/base.qcow2', { snapshots: [snapshot] }),
        dataFile('/w/base.data'),
      ),
    ]);
    expect(outline(forest)).toEqual([
      '/w/top.qcow2 (active open)',
      '  /w/top.data (data-file open)',
      '  bitmaps',
      '    backup',
      '  /w/base.qcow2 (backing open base)',
      '    /w/base.data (data-file open)',
      '    snapshots',
      '      before',
    ]);
  });

  it('keeps a file that is raw to its overlay and qcow2 by its content apart', () => {
    const forest = buildForest([
      known(active('/w/top.qcow2'), backing('/w/guest.img', { format: 'raw', clusterSize: null })),
      known(active('/w/guest.img')),
    ]);
    expect(outline(forest).filter((line) => !line.startsWith(' '))).toEqual(['/w/guest.img (active open)', '/w/top.qcow2 (active open)']);
  });

  it('does not take an added raw image for a root once an overlay names it', () => {
    const raw = { format: 'raw', clusterSize: null } as const;
    const added = { ...known(active('/w/base.img', raw)), added: true };
    expect(outline(buildForest([added]))).toEqual(['/w/base.img (active open)']);
    expect(outline(buildForest([added, known(active('/w/top.qcow2'), backing('/w/base.img', raw))]))).toEqual([
      '/w/top.qcow2 (active open)',
      '  /w/base.img (backing open base)',
    ]);
  });

  it('tells roots of the same name apart by their folders', () => {
    const forest = buildForest([known(active('/w/a/disk.qcow2')), known(active('/w/b/disk.qcow2')), known(active('/w/other.qcow2'))]);
    expect(forest.roots.map((root) => root.kind === 'image' && root.folder)).toEqual(['/w/a', '/w/b', null]);
  });

  it('gives every row an id of its own, also when a descriptor lists one extent twice', () => {
    const extent = { ...dataFile('/w/x-flat.vmdk'), role: 'extent' as const };
    const forest = buildForest([known(active('/w/x.vmdk', { format: 'vmdk' }), extent, extent, extent)]);
    const ids = forest.roots.flatMap((root) => [root.id, ...root.children.map(({ id }) => id)]);
    expect(new Set(ids).size).toBe(4);
  });

  it('shows what could not be looked at', () => {
    const forest = buildForest([{ path: '/w/x.qcow2', added: false, description: { kind: 'failed', message: 'Permission denied' } }]);
    expect(outline(forest)).toEqual(['/w/x.qcow2 failed']);
  });

  it('finds the rows of an image, its own root first', () => {
    const forest = buildForest([
      known(active('/w/a.qcow2'), backing('/w/base.qcow2')),
      known(active('/w/b.qcow2'), backing('/w/base.qcow2')),
    ]);
    expect(nodesOfImage(forest, '/w/a.qcow2')).toEqual(['/w/a.qcow2']);
    expect(nodesOfImage(forest, '/w/base.qcow2')).toHaveLength(2);
    expect(nodesOfImage(forest, '/w/none.qcow2')).toEqual([]);
  });
});

describe('the difference of two forests', () => {
  const chain = (over = {}, ...more: ReturnType<typeof backing>[]) =>
    buildForest([
      known(active('/w/a.qcow2'), backing('/w/mid.qcow2'), backing('/w/base.qcow2', over), ...more),
      known(active('/w/z.qcow2')),
    ]);

  it('is nothing for the same images', () => {
    expect(compareForests(chain(), chain())).toEqual({ roots: false, nodes: [] });
  });

  it('names the one row that changed', () => {
    expect(compareForests(chain(), chain({ allocatedBytes: 4096 }))).toEqual({
      roots: false,
      nodes: ['/w/a.qcow2\nbacking\n/w/base.qcow2'],
    });
  });

  it('names the root whose chain grew', () => {
    expect(compareForests(chain(), chain({}, backing('/w/deeper.qcow2')))).toEqual({ roots: false, nodes: ['/w/a.qcow2'] });
  });

  it('says when roots came or went', () => {
    expect(compareForests(chain(), buildForest([known(active('/w/a.qcow2'))])).roots).toBe(true);
  });
});

describe('the tails of a chain', () => {
  it('are the chains of its backing files', () => {
    const chain = { links: [active('/w/a'), backing('/w/b'), dataFile('/w/b.data'), backing('/w/c')] };
    expect(tailsOf(chain)).toEqual([
      { path: '/w/b', format: 'qcow2', chain: { links: [active('/w/b'), dataFile('/w/b.data'), backing('/w/c')] } },
      { path: '/w/c', format: 'qcow2', chain: { links: [active('/w/c')] } },
    ]);
  });

  it('are none where the chain loops, and none of what is not open', () => {
    expect(tailsOf({ links: [active('/w/a'), backing('/w/b'), notOpen('/w/a', { kind: 'loop' })] })).toEqual([]);
    expect(tailsOf({ links: [active('/w/a'), { ...backing('/w/b'), image: null, state: { kind: 'missing' } }] })).toEqual([]);
    expect(image().format).toBe('qcow2');
  });
});
