/** For options that may be given several times: all values, in their order. */
export function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}
