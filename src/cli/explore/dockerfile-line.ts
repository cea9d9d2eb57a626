const SHELL = '/bin/sh -c ';
const NO_COMMAND = '#(nop) ';

/** The line of a Dockerfile, as far as it can be told, by what builders write into an image's history. */
export function dockerfileLine(createdBy: string): string {
  const text = createdBy
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/ # buildkit$/, '');
  const words = text.startsWith('RUN ') ? text.slice('RUN '.length) : text;
  // `|2 KEY=value …` are the arguments of a build.
  const at = words.startsWith('|') ? words.indexOf(` ${SHELL}`) + 1 : 0;
  if (!words.startsWith(SHELL, at)) return text;
  const command = words.slice(at + SHELL.length).trimStart();
  return command.startsWith(NO_COMMAND) ? command.slice(NO_COMMAND.length).trimStart() : `RUN ${command}`;
}
