import { expect, test } from 'vitest';
import { ObjectDefinitions } from '../../../src/cli/objectDefinitions';

test('secrets are taken in every spelling, and nothing that they name is opened', () => {
  const objects = new ObjectDefinitions(1);
  objects.add('secret,id=a,data=abc');
  objects.add('qom-type=secret,id=b,file=/does/not/exist');
  objects.add('{"qom-type": "secret", "id": "c", "data": "x"}');
});

test.each([
  ['nonsense,id=a', "Parameter 'qom-type' does not accept value 'nonsense'"],
  ['secret', "Parameter 'id' is missing"],
  ['secret,id=a', "Either 'file' or 'data' must be provided"],
  ['secret,id=a,data=x,file=y', "'file' and 'data' are mutually exclusive"],
  ['{"qom-type": ', 'JSON parse error'],
])('%s is refused with the exit code that the command has for it', (definition, message) => {
  expect(() => {
    new ObjectDefinitions(2).add(definition);
  }).toThrow(expect.objectContaining({ exitCode: 2, message: expect.stringContaining(message) as string }));
});

test('an id is used once', () => {
  const objects = new ObjectDefinitions(1);
  objects.add('secret,id=a,data=x');
  expect(() => {
    objects.add('secret,id=a,data=y');
  }).toThrow("duplicate property 'a'");
});
