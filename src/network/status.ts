import { readdir } from 'node:fs/promises';

export interface NetworkStatus {
  isReady: boolean;
  /** One CamelCase word for programs. */
  reason: string;
  /** A sentence for people. */
  message: string;
}

/**
 * Whether pods get a network beyond their own loopback. This version makes a
 * pod's network namespace and runs no CNI plugin, and says so.
 */
export async function networkStatus(cniConfigDir: string): Promise<NetworkStatus> {
  const files = (await readdir(cniConfigDir).catch(() => []))
    .filter(name => /\.(conf|conflist|json)$/.test(name))
    .sort();
  const found =
    files[0] === undefined
      ? `${cniConfigDir} holds no network configuration`
      : `${cniConfigDir}/${files[0]} is not used`;
  return {
    isReady: false,
    reason: 'NetworkPluginNotReady',
    message: `${found}: this version runs no CNI plugins; pods have a loopback interface, or the host's network`,
  };
}
