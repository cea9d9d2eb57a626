import type { Network } from '../../cri/generated/berth/v1/network';
import { containerPort, hostAddress } from './ports';

/** As docker shows a network, as far as there is the same. */
export function networkJson(network: Network): object {
  const { name, plugins, file, isCurrent, bridge, subnets, masquerade, mtu, members } = network;
  return {
    Name: name,
    Scope: 'local',
    Driver: plugins[0] ?? '',
    Plugins: plugins,
    File: file,
    IsDefault: isCurrent,
    IPAM: { Config: subnets.map(({ subnet, gateway }) => ({ Subnet: subnet, Gateway: gateway })) },
    Options: bridge === '' ? {} : { Bridge: bridge, Masquerade: masquerade, Mtu: mtu },
    Containers: Object.fromEntries(
      members.map(({ pod, name: member, addresses, ports }) => [
        pod,
        {
          Name: member,
          Addresses: addresses,
          Ports: Object.fromEntries(ports.map(port => [hostAddress(port), containerPort(port)])),
        },
      ]),
    ),
  };
}
