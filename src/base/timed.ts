/** Tells how long calls of these methods of one object take, whatever becomes of them. Other objects of its class are left alone. */
export function timeMethods<Target extends object>(
  target: Target,
  methods: readonly (keyof Target & string)[],
  tell: (method: string, seconds: number) => void,
): void {
  for (const name of methods) {
    const method = target[name] as (...args: unknown[]) => Promise<unknown>;
    const timed = async (...args: unknown[]) => {
      const from = performance.now();
      try {
        return await method.apply(target, args);
      } finally {
        tell(name, (performance.now() - from) / 1000);
      }
    };
    Object.defineProperty(target, name, { value: timed });
  }
}
