// The conformance suite over NFS v4.2 of the kernel. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { conformanceOf } from './conformance-of.ts';
import { nfsShare } from './share.ts';

conformanceOf('NFS v4.2', nfsShare('4.2'));
