/** The twelve digits that people see of an id or a digest. */
export function shortId(id: string): string {
  return id.replace(/^sha256:/, '').slice(0, 12);
}

/** A reference as people type it: `docker.io/library/alpine:3` is `alpine:3`. */
export function familiar(reference: string): string {
  return reference.replace(/^docker\.io\/(library\/)?/, '');
}

/** The repository and tag of a full reference; a colon before the last slash is a port's. */
export function splitTag(reference: string): { repository: string; tag: string } {
  const colon = reference.lastIndexOf(':');
  if (colon <= reference.lastIndexOf('/')) return { repository: familiar(reference), tag: '<none>' };
  return { repository: familiar(reference.slice(0, colon)), tag: reference.slice(colon + 1) };
}

/** At most `length` characters, the last an ellipsis where some are missing. */
export function ellipsis(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join('')}…`;
}
