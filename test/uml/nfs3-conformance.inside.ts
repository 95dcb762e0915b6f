// The conformance suite over NFS v3 of the kernel. Runs inside of user-mode-linux only (test/servers/uml.ts).

import { conformanceOf } from './conformance-of.ts';
import { nfsShare } from './share.ts';

conformanceOf('NFS v3', nfsShare('3'));
