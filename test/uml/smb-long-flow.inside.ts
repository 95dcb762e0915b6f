// What a repository over SMB 3.1.1 of the kernel must survive. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { longFlowOf } from './flow-of.ts';
import { smbShare } from './share.ts';

longFlowOf('SMB 3.1.1', smbShare());
