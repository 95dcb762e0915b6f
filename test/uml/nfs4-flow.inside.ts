// The essentials of a repository over NFS v4.2 of the kernel. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { flowOf } from './flow-of.ts';
import { nfsShare } from './share.ts';

flowOf('NFS v4.2', nfsShare('4.2'));
