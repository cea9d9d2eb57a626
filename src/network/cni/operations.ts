import type { Context } from '../../base/context';
import { BerthError } from '../../base/errors';
import { has, type NetworkList, type PluginConfig } from './config';
import { findPlugin, runPlugin, type Attachment, type PluginHost } from './plugin';
import type { CniResult } from './result';

/** What plugins that have the capability are told: `portMappings`, `bandwidth`, `dns`, …. */
export type RuntimeConfig = Readonly<Record<string, unknown>>;

/** Refuses a network whose plugins are not all there: half of it could be neither used nor taken down. */
export async function assertInstalled(host: PluginHost, { name, plugins }: NetworkList): Promise<void> {
  const programs = plugins.filter(({ type }) => !host.builtIn.has(type));
  for (const { type } of programs) await findPlugin(host, type, `network ${JSON.stringify(name)}: plugin ${type}`);
}

/** ADD, plugin by plugin, each with the result of those before it; the last result is the network's. */
export async function addNetwork(
  ctx: Context,
  host: PluginHost,
  network: NetworkList,
  attachment: Attachment,
  runtimeConfig: RuntimeConfig,
): Promise<CniResult> {
  let result: CniResult | undefined;
  for (const plugin of network.plugins) {
    ctx.stage(`CNI ADD: plugin ${plugin.type} of network ${network.name}`);
    const config = configOf(network, plugin, runtimeConfig, result);
    const answer = await runPlugin(host, 'ADD', network.name, plugin.type, config, attachment);
    if (!answer)
      throw new BerthError(
        'failed_precondition',
        `CNI ADD of network ${JSON.stringify(network.name)}: plugin ${plugin.type} succeeded without a result`,
      );
    result = answer;
  }
  return result ?? {};
}

/**
 * DEL, the plugins in reverse. Idempotent as the specification asks of plugins.
 * All are run, whatever one says; the first error is thrown at the end.
 */
export async function deleteNetwork(
  ctx: Context,
  host: PluginHost,
  network: NetworkList,
  attachment: Attachment,
  runtimeConfig: RuntimeConfig,
  result: CniResult | undefined,
): Promise<void> {
  let first: unknown;
  for (const plugin of [...network.plugins].reverse()) {
    ctx.stage(`CNI DEL: plugin ${plugin.type} of network ${network.name}`);
    const config = configOf(network, plugin, runtimeConfig, has(network, '0.4.0') ? result : undefined);
    try {
      await runPlugin(host, 'DEL', network.name, plugin.type, config, attachment);
    } catch (error) {
      first ??= error;
    }
  }
  if (first !== undefined) throw first;
}

/** CHECK, plugin by plugin: is the attachment as ADD left it? Networks that cannot say are fine. */
export async function checkNetwork(
  ctx: Context,
  host: PluginHost,
  network: NetworkList,
  attachment: Attachment,
  runtimeConfig: RuntimeConfig,
  result: CniResult,
): Promise<void> {
  if (!has(network, '0.4.0') || network.disableCheck) return;
  for (const plugin of network.plugins) {
    ctx.stage(`CNI CHECK: plugin ${plugin.type} of network ${network.name}`);
    const config = configOf(network, plugin, runtimeConfig, result);
    await runPlugin(host, 'CHECK', network.name, plugin.type, config, attachment);
  }
}

/** STATUS: can the network take a pod now? Networks of before 1.1 cannot say, and are believed once their plugins are there. */
export async function networkReady(host: PluginHost, network: NetworkList): Promise<void> {
  await assertInstalled(host, network);
  if (!has(network, '1.1.0')) return;
  for (const plugin of network.plugins)
    await runPlugin(host, 'STATUS', network.name, plugin.type, configOf(network, plugin, {}, undefined));
}

/** GC: whatever the plugins still hold for attachments that are not among `valid` is given back. */
export async function collectNetwork(
  host: PluginHost,
  network: NetworkList,
  valid: readonly { containerID: string; ifname: string }[],
): Promise<void> {
  if (!has(network, '1.1.0') || network.disableGC) return;
  for (const plugin of network.plugins) {
    const config = { ...configOf(network, plugin, {}, undefined), 'cni.dev/valid-attachments': valid };
    await runPlugin(host, 'GC', network.name, plugin.type, config);
  }
}

/** What a plugin reads: its own part of the file, and what it is told of the pod. */
export function configOf(
  { name, version }: NetworkList,
  { type, capabilities, raw }: PluginConfig,
  runtimeConfig: RuntimeConfig,
  prevResult: CniResult | undefined,
): object {
  const told = Object.entries(runtimeConfig).filter(([key]) => capabilities[key]);
  return {
    ...raw,
    type,
    cniVersion: version,
    name,
    ...(told.length > 0 ? { runtimeConfig: Object.fromEntries(told) } : {}),
    ...(prevResult ? { prevResult } : {}),
  };
}
