// Domains of a libvirt of the test's own, and a user who backs them up: for libvirt.test.ts and libvirt.long.test.ts.

import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect } from 'vitest';
import type { BackupOutcome } from '../../src/app-interface.ts';
import type { Run } from '../cli/run-chainkeep.ts';
import { startLibvirt, type TestLibvirt } from '../servers/libvirtd.ts';
import { noise, qemuImg, type ScratchHome, sharedScratchHome } from './scratch-home.ts';

export const MIB = 1 << 20;

export interface Point {
  readonly backups: readonly BackupOutcome[];
  readonly stderr: string;
}

export const reads = ({ backups }: Point): number[] => backups.map(({ bytes_read: bytes }) => bytes);

export class LibvirtScene {
  readonly user: ScratchHome = sharedScratchHome();
  #libvirt: TestLibvirt | undefined;

  /** For all tests of a file. */
  constructor() {
    beforeAll(async () => {
      this.#libvirt = await startLibvirt();
      this.#libvirt.give(this.user.folder);
    });
    afterAll(() => this.#libvirt?.stop());
  }

  get libvirt(): TestLibvirt {
    if (!this.#libvirt) throw new Error('libvirt was not started');
    return this.#libvirt;
  }

  /** A domain with a QCOW2 disk of 24 MiB and a raw one of 10 MiB, all noise. */
  startDomain(name: string): void {
    const { user, libvirt } = this;
    writeFileSync(user.path(`${name}-0.raw`), noise(24 * MIB, 1));
    qemuImg('convert', '-f', 'raw', '-O', 'qcow2', user.path(`${name}-0.raw`), user.path(`${name}-0.qcow2`));
    writeFileSync(user.path(`${name}-1.img`), noise(10 * MIB, 2));
    mkdirSync(user.path(`${name}-scratch`));
    for (const file of [`${name}-0.qcow2`, `${name}-1.img`, `${name}-scratch`]) libvirt.give(user.path(file));
    libvirt.startDomain(name, [
      { path: user.path(`${name}-0.qcow2`), format: 'qcow2' },
      { path: user.path(`${name}-1.img`), format: 'raw' },
    ]);
  }

  backupOf(name: string, ...more: readonly string[]): readonly string[] {
    return ['backup', `libvirt:${name}`, '--vm', name, '--scratch', this.user.path(`${name}-scratch`), ...more, '--json'];
  }

  run(...args: readonly string[]): Promise<Run> {
    return this.user.runAs(this.libvirt.as, ...args);
  }

  async take(name: string, ...more: readonly string[]): Promise<Point> {
    const ended = await this.run(...this.backupOf(name, ...more));
    expect(ended.code, ended.stderr).toBe(0);
    return { ...JSON.parse(ended.stdout), stderr: ended.stderr };
  }

  checkpoints(name: string): string[] {
    return this.libvirt.virsh('checkpoint-list', '--domain', name, '--name').split('\n').filter(Boolean);
  }

  /** Copies of both disks as they are now. */
  save(name: string): readonly string[] {
    const { user } = this;
    qemuImg('convert', '-U', '-f', 'qcow2', '-O', 'raw', user.path(`${name}-0.qcow2`), user.path(`${name}-0.copy`));
    return [user.path(`${name}-0.copy`), user.save(user.path(`${name}-1.img`), `${name}-1.copy`)];
  }

  async expectRestores({ backups }: Point, copies: readonly string[]): Promise<void> {
    for (const { backup_id: id, disk_id: disk } of backups) await this.user.expectRestores(id, copies[disk] ?? '');
  }
}
