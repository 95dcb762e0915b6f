// The essentials of a repository over SMB 3.1.1 of the kernel. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { flowOf } from './flow-of.ts';
import { smbShare } from './share.ts';

flowOf('SMB 3.1.1', smbShare());
