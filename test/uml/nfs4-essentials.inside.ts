// The shortest way through a repository over NFS v4.2 of the kernel. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { describe } from 'vitest';
import { essentialsOf } from './flow-of.ts';
import { nfsShare } from './share.ts';

describe('essentials', () => essentialsOf('NFS v4.2', nfsShare('4.2')));
