import { describe, expect, it } from 'vitest';

import { amendOptions, createOptions, saidOptions } from '../../../src/shell/commands/manage/formatOptions';

function names(specs: readonly { readonly name: string }[]): string[] {
  return specs.map(({ name }) => name);
}

describe('options of a new image', () => {
  it('are those that the others leave open', () => {
    expect(names(createOptions('qcow2', { compat: '0.10' }, false))).toEqual(['cluster_size', 'preallocation', 'encrypt.format', 'compat']);
    expect(names(createOptions('qcow2', { cluster_size: '4K' }, false))).not.toContain('extended_l2');
    expect(names(createOptions('qcow2', {}, true))).not.toContain('preallocation');
    expect(names(createOptions('qed', {}, true))).toEqual(['cluster_size', 'table_size']);
  });

  it('are said only where they change something, and still can be', () => {
    const options = { compat: '0.10', lazy_refcounts: 'on', cluster_size: '64K', preallocation: 'metadata' };
    expect(saidOptions(createOptions('qcow2', options, false), options)).toEqual({ compat: '0.10', preallocation: 'metadata' });
  });

  it('have their standard among their values', () => {
    for (const format of ['qcow2', 'qed', 'raw'] as const) {
      for (const { standard, values } of [...createOptions(format, {}, false), ...amendOptions({})]) {
        expect(values.map(({ value }) => value)).toContain(standard);
      }
    }
  });
});
