// A server in the place of a cloud: it answers every request that who asks is not known. So a test that gives made-up keys asks nobody outside.

import { once } from 'node:events';
import { createServer } from 'node:http';

export interface RefusingServer {
  readonly address: string;
  stop(): Promise<void>;
}

export async function startRefusingServer(): Promise<RefusingServer> {
  const server = createServer((request, response) => {
    request.resume();
    response.writeHead(403, { 'x-ms-error-code': 'AuthenticationFailed' }).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    address: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`,
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}
