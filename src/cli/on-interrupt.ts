const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Has `clean`, which must not wait, done also when a signal or process.exit() ends this process. What it returns takes that back. */
export function onInterrupt(clean: () => void): () => void {
  const release = () => {
    process.off('exit', clean);
    for (const signal of ENDING) process.off(signal, end);
  };
  const end = (signal: NodeJS.Signals) => {
    release();
    try {
      clean();
    } finally {
      process.kill(process.pid, signal); // as it would have ended
    }
  };
  process.on('exit', clean);
  for (const signal of ENDING) process.on(signal, end);
  return release;
}
