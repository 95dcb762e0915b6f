// Where the guest agent of a machine can be reached: the socket behind the serial port that has the agent's name.

import { ChainkeepError } from '../../plumbing/errors.ts';
import { asList, isSet, textOf } from './answer-fields.ts';
import type { QmpConnection } from './qmp-connection.ts';

const AGENT_PORT = 'org.qemu.guest_agent.0';
const DEVICE_FOLDERS = ['/machine/peripheral', '/machine/peripheral-anon'];

/** The path of a unix socket; undefined where the machine has no such port, or nobody in the guest has opened it. */
export async function findGuestAgent(qmp: QmpConnection): Promise<string | undefined> {
  for (const folder of DEVICE_FOLDERS) {
    for (const device of asList(await qmp.execute('qom-list', { path: folder }), 'qom-list')) {
      if (textOf(device, 'type', 'qom-list') !== 'child<virtserialport>') continue;
      const path = `${folder}/${textOf(device, 'name', 'qom-list')}`;
      if ((await property(qmp, path, 'name')) !== AGENT_PORT) continue;
      return socketOf(qmp, await property(qmp, path, 'chardev'));
    }
  }
  return undefined;
}

async function property(qmp: QmpConnection, path: string, name: string): Promise<unknown> {
  try {
    return await qmp.execute('qom-get', { path, property: name });
  } catch (error) {
    if (error instanceof ChainkeepError && error.code === 'HYPERVISOR_FAILED') return undefined; // a port without a name
    throw error;
  }
}

/** `disconnected:unix:/run/agent.sock,server=on` */
async function socketOf(qmp: QmpConnection, label: unknown): Promise<string | undefined> {
  const devices = asList(await qmp.execute('query-chardev'), 'query-chardev');
  const device = devices.find((one) => one.label === label);
  if (!device || !isSet(device, 'frontend-open')) return undefined;
  return /^(?:disconnected:)?unix:(.+?),server/.exec(textOf(device, 'filename', 'query-chardev'))?.[1];
}
