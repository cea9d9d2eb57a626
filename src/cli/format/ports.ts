import type { PublishedPort } from '../../cri/generated/berth/v1/berth';

/** `80/tcp` */
export function containerPort({ containerPort: port, protocol }: PublishedPort): string {
  return `${port}/${protocol}`;
}

/** `0.0.0.0:8080`, `[::1]:8080` */
export function hostAddress({ hostIp, hostPort }: PublishedPort): string {
  const ip = hostIp === '' ? '0.0.0.0' : hostIp;
  return `${ip.includes(':') ? `[${ip}]` : ip}:${hostPort}`;
}
