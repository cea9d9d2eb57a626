/** What is asked for where no --platform is: docker's variable for that; empty for the node's platform. */
export function defaultPlatform(): string {
  return process.env['DOCKER_DEFAULT_PLATFORM'] ?? '';
}
