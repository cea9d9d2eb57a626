import { BerthError } from '../base/errors';
import { SecurityProfile_ProfileType, type SecurityProfile } from '../cri';

/** Which profile a request asks for; `ref` is a path (seccomp) or the name of a loaded profile (AppArmor). */
export type ProfileChoice = { type: 'default' } | { type: 'unconfined' } | { type: 'localhost'; ref: string };

const LOCALHOST = 'localhost/';

/**
 * The message, or the text of older clients; the message wins. Undefined when
 * neither says anything, which the interface defines as no confinement for
 * seccomp. `field` names them in errors.
 */
export function profileChoice(
  profile: SecurityProfile | undefined,
  deprecated: string,
  field: string,
): ProfileChoice | undefined {
  return profile ? ofMessage(profile, field) : ofText(deprecated, field);
}

function ofMessage({ profileType, localhostRef }: SecurityProfile, field: string): ProfileChoice {
  switch (profileType) {
    case SecurityProfile_ProfileType.RuntimeDefault:
      return { type: 'default' };
    case SecurityProfile_ProfileType.Unconfined:
      return { type: 'unconfined' };
    case SecurityProfile_ProfileType.Localhost:
      return localhost(localhostRef, field);
    default:
      throw new BerthError('invalid_argument', `${field}: ${String(profileType)} is no type of profile`);
  }
}

function ofText(text: string, field: string): ProfileChoice | undefined {
  if (text === '') return undefined;
  if (text === 'unconfined') return { type: 'unconfined' };
  if (text === 'runtime/default' || text === 'docker/default') return { type: 'default' };
  if (text.startsWith(LOCALHOST)) return localhost(text, field);
  throw new BerthError('invalid_argument', `${field} ${JSON.stringify(text)} is not known`, {
    hint: 'it is runtime/default, unconfined or localhost/ with the profile',
  });
}

function localhost(text: string, field: string): ProfileChoice {
  const ref = text.startsWith(LOCALHOST) ? text.slice(LOCALHOST.length) : text;
  if (ref !== '' && !ref.includes('\0')) return { type: 'localhost', ref };
  throw new BerthError('invalid_argument', `${field} asks for a localhost profile and does not say which`);
}

/** As older clients wrote it; what people are shown. */
export function profileName(choice: ProfileChoice | undefined): string {
  switch (choice?.type) {
    case 'default':
      return 'runtime/default';
    case 'localhost':
      return `${LOCALHOST}${choice.ref}`;
    default:
      return 'unconfined';
  }
}
