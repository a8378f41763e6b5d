#!/usr/bin/env node
import { keepCompiledCode } from './compiledCode';

/* The entry of `chainscope`: so small that everything else is loaded with its compiled code at hand. */

keepCompiledCode();
void import('./chainscope').then(({ main }) => main());
