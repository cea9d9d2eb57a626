import type { Form } from './dockerfile/forms';
import type { Heredoc } from './dockerfile/lines';

/** What the shell gets, or a file that says itself what runs it. */
export function scriptOf(form: Extract<Form, { shell: string }>, heredocs: readonly Heredoc[]): string {
  const [only] = heredocs;
  if (only && heredocs.length === 1 && /^\d*<<-?\S+$/.test(form.shell.trim())) return only.content;
  return [form.shell, ...heredocs.map(({ content, name }) => `${content}${name}`)].join('\n');
}
