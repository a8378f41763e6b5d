import { afterAll } from 'vitest';
import { endKept } from './processes';

/* For every file of tests: its own hooks come before this one. */

afterAll(endKept);
