// What a repository over NFS v3 of the kernel must survive. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { longFlowOf } from './flow-of.ts';
import { nfsShare } from './share.ts';

longFlowOf('NFS v3', nfsShare('3'));
