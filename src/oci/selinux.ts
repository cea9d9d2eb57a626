import { BerthError } from '../base/errors';
import type { SELinuxOption } from '../cri';

/** The label of a container's files: of the request's user, role and level, and the type that containers may write. */
export function mountLabel(options: SELinuxOption | undefined): string {
  const { user = '', role = '', level = '' } = options ?? {};
  const label = `${user || 'system_u'}:${role || 'object_r'}:container_file_t:${level || 's0'}`;
  if (/^[\w.:,-]{1,255}$/.test(label)) return label;
  throw new BerthError('invalid_argument', `selinux_options: ${JSON.stringify(label)} is not a label`);
}
