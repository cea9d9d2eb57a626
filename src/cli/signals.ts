/** What a person or a supervisor sends to stop, reload or poke a command. */
const forwarded = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/**
 * Sends the signals of this process to `send` instead of ending it, until disposed. A signal that cannot be sent has
 * come too late, and is dropped.
 */
export function forwardSignals(send: (signal: string) => Promise<unknown>): Disposable {
  const forward = (signal: string) => void send(signal).catch(() => undefined);
  for (const signal of forwarded) process.on(signal, forward);
  return {
    [Symbol.dispose]: () => {
      for (const signal of forwarded) process.off(signal, forward);
    },
  };
}
