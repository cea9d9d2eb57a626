import assert from 'node:assert/strict';

/** The metrics of a daemon whose log says where they are: by name and labels. Every line must be one that the text format has. */
export async function samples(log: string): Promise<Map<string, number>> {
  const [, host] = /metrics address=(127\.0\.0\.1:[1-9]\d*)/.exec(log) ?? [];
  assert.ok(host, log);
  const response = await fetch(`http://${host}/metrics`);
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/);
  const lines = (await response.text()).split('\n').filter(line => line !== '' && !line.startsWith('# '));
  return new Map(
    lines.map(line => {
      const [, sample = '', value = ''] = /^([a-z_]\w*(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? [];
      assert.ok(sample, line);
      return [sample, value === '+Inf' ? Infinity : Number(value)];
    }),
  );
}
