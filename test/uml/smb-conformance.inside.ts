// The conformance suite over SMB 3.1.1 of the kernel. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { conformanceOf } from './conformance-of.ts';
import { smbShare } from './share.ts';

conformanceOf('SMB 3.1.1', smbShare());
