import type { BerthServer, RegistryEndpoint } from '../cri/generated/berth/v1/berth';
import type { EndpointReport } from '../image/images';
import { canonicalForm, parseReference } from '../image/reference';
import type { BerthParts } from './berth-service';
import { unary } from './handler';

/** ExplainPull: every endpoint that a pull would ask, and its answer. */
export function explainRpc({ log, images }: BerthParts) {
  return {
    explainPull: unary(log, 'ExplainPull', async ({ image }, ctx) => ({
      reference: canonicalForm(parseReference(image)),
      endpoints: (await images.explain(ctx, image)).map(endpointOf),
    })),
  } satisfies Partial<BerthServer>;
}

function endpointOf({
  answer,
  credentials,
  capabilities,
  tlsFiles,
  headers,
  ...report
}: EndpointReport): RegistryEndpoint {
  const found = answer.kind === 'found' ? answer : undefined;
  return {
    url: report.url,
    why: report.why,
    security: report.security,
    capabilities: [...capabilities],
    tlsFiles: [...tlsFiles],
    headers: [...headers],
    proxy: report.proxy ?? '',
    credentials: credentials?.source ?? '',
    username: credentials?.username ?? '',
    asked: answer.kind !== 'not asked',
    latencyMs: answer.kind === 'not asked' ? 0n : BigInt(answer.latencyMs),
    digest: found?.digest ?? '',
    mediaType: found?.mediaType ?? '',
    error: answer.kind === 'failed' ? answer.message : '',
    used: report.used,
  };
}
