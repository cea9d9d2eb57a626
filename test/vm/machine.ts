import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** How a guest's systemd mounts cgroups. */
export type CgroupMode = 'v2' | 'v1' | 'hybrid';

/** The security module that has labels for processes, and what it needs for that; `none`: AppArmor, without profiles. */
export type SecurityModule = 'apparmor' | 'selinux' | 'none';

export interface Machine {
  kernel: string;
  root: string;
  cgroups: CgroupMode;
  module: SecurityModule;
  /** Read-only, by the guest found by their labels. */
  disks: readonly string[];
  /** Where the kernel's and systemd's console goes. */
  consoleLog: string;
  timeLimitMs: number;
}

/** How a guest's run ended: with the status it told, or without. */
export type End = { status: number } | { silence: string };

/** `kvm` where the machine has it and it works; emulation works everywhere. */
const accel = process.env['VM_ACCEL'] ?? 'tcg,thread=multi';
const MEMORY = '3G';
const CPUS = '2';

/**
 * Boots the machine, hands each line of its tests' console to `onLine`, and ends the machine once it has told its
 * status, or after its time. What it writes on its root goes with it.
 */
export async function runMachine(machine: Machine, onLine: (line: string) => void): Promise<End> {
  const qemu = spawn('qemu-system-x86_64', options(machine), { stdio: ['ignore', 'pipe', 'inherit'] });
  const closed = once(qemu, 'close');
  let end: End | undefined;
  const finish = (how: End) => {
    end ??= how;
    qemu.kill('SIGKILL');
  };
  const stop = () => finish({ silence: 'it was interrupted' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
  const timer = setTimeout(() => {
    finish({ silence: `it has not ended within ${Math.round(machine.timeLimitMs / 60_000)} minutes` });
  }, machine.timeLimitMs);
  createInterface({ input: qemu.stdout }).on('line', line => {
    const [, status] = /^guest: exit (\d+)$/.exec(line) ?? [];
    if (status === undefined) onLine(line);
    else finish({ status: Number(status) });
  });
  try {
    const [code] = (await closed) as [number | null];
    return end ?? { silence: code === 0 ? 'it was switched off' : `qemu ended with status ${code}` };
  } finally {
    clearTimeout(timer);
  }
}

/** systemd 256 and 257 want to be forced to what is not v2, and 258 has nothing else. */
const CGROUP_OPTIONS: Readonly<Record<CgroupMode, string>> = {
  v2: 'systemd.unified_cgroup_hierarchy=1',
  v1: 'systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1',
  hybrid: 'systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=0',
};

/** Debian's kernel has both, and takes the first. What SELinux would refuse is told on the console, which takes audit. */
const MODULE_OPTIONS: Readonly<Record<SecurityModule, string>> = {
  none: 'audit=0',
  apparmor: 'audit=0',
  selinux: 'security=selinux enforcing=0 audit=1',
};

function options({ kernel, root: image, cgroups, module, disks, consoleLog }: Machine): string[] {
  // Written to a file that is gone already. The only NVMe disk: in which order several get their names is not said.
  const root = ['-drive', `if=none,id=root,file=${image},format=raw,snapshot=on`];
  const others = disks.flatMap(file => ['-drive', `if=virtio,file=${file},format=raw,readonly=on`]);
  const commandLine =
    'root=/dev/nvme0n1 rw console=ttyS0 panic=-1 mitigations=off no_timer_check hugepages=16 ' +
    `${CGROUP_OPTIONS[cgroups]} ${MODULE_OPTIONS[module]}`;
  return [
    ...['-M', 'q35', '-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
    ...['-accel', accel, '-cpu', 'max', '-smp', CPUS, '-m', MEMORY],
    ...['-kernel', kernel, '-append', commandLine],
    ...[...root, '-device', 'nvme,drive=root,serial=root', ...others],
    ...['-serial', `file:${consoleLog}`],
    ...[
      '-chardev',
      'stdio,id=tests,signal=off',
      '-device',
      'virtio-serial-pci',
      '-device',
      'virtconsole,chardev=tests',
    ],
  ];
}
