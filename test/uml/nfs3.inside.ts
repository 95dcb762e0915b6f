// NFS v3 of the kernel: the conformance suite, and what a repository there must do and survive. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { describe } from 'vitest';
import { conformanceOf } from './conformance-of.ts';
import { essentialsOf, flowOf, longFlowOf } from './flow-of.ts';
import { nfsShare } from './share.ts';

const [name, share] = ['NFS v3', nfsShare('3')] as const;
describe('conformance', () => conformanceOf(name, share));
describe('essentials', () => essentialsOf(name, share));
describe('flow', () => flowOf(name, share));
describe('long flow', () => longFlowOf(name, share));
