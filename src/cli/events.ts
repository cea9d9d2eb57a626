import type { Command } from 'commander';
import { BerthError } from '../base/errors';
import { EventsService, type Event, type EventFilter } from '../cri/generated/berth/v1/events';
import type { Daemon } from './client';
import { nowNs, timestamp } from './format/age';
import { printable } from './format/printable';
import { parseTemplate, type Template } from './format/template';
import { print } from './output';
import { parseSince } from './parse/since';

interface Flags {
  since: bigint;
  until: bigint;
  filter: EventFilter[];
  format: (event: Event) => string;
}

export function define(command: Command, daemon: () => Daemon): void {
  command
    .usage('[OPTIONS]')
    .option('--since <time>', 'also what has happened since: 10m, 2026-01-31T08:00:00Z', parseSinceNow, 0n)
    .option('--until <time>', 'not what happens later, and end then', text => parseSince(text, nowNs(), '--until'), 0n)
    .option(
      '-f, --filter <filter>',
      'type=TYPE, event=ACTION, container=, pod=, image= a name or id, label=KEY[=VALUE]',
      collectFilter,
      [],
    )
    .option('--format <format>', 'json or a template: {{.Time}} {{.Type}} {{.Action}} {{.Name}}', parseFormat, lineOf)
    .addHelpText('after', '\nExample: berth events --since 1h --filter type=container --filter event=die')
    .action(async ({ since, until, filter, format }: Flags) => {
      const request = { sinceNs: since, untilNs: until, filters: filter };
      for await (const { events, forgottenUntilNs } of daemon().open(EventsService.watchEvents, request)) {
        if (forgottenUntilNs > 0n) warn(forgottenUntilNs);
        if (events.length > 0) await print(events.map(format).join(''));
      }
    });
}

function parseSinceNow(text: string): bigint {
  return parseSince(text, nowNs());
}

function collectFilter(text: string, before: readonly EventFilter[]): EventFilter[] {
  const equals = text.indexOf('=');
  if (equals <= 0) {
    throw new BerthError('invalid_argument', `--filter ${text} has no "="`, {
      hint: 'filters look like type=container',
    });
  }
  return [...before, { key: text.slice(0, equals), value: text.slice(equals + 1) }];
}

function parseFormat(text: string): (event: Event) => string {
  if (text === 'json' || /^\{\{\s*json\s+\.\s*\}\}$/.test(text)) return jsonOf;
  const template: Template = parseTemplate(text, FIELDS);
  return event => template(fieldsOf(event));
}

function warn(forgottenUntilNs: bigint): void {
  process.stderr.write(`berth: what happened up to ${timestamp(forgottenUntilNs)} is not known any more\n`);
}

/** As docker prints it: time, type, action, id, and in parentheses all else that is known. */
function lineOf(event: Event): string {
  const all = Object.entries(allAttributes(event)).map(([key, value]) => `${key}=${value}`);
  const more = all.length === 0 ? '' : ` (${all.join(', ')})`;
  return `${printable(`${timestamp(event.timeNs)} ${event.type} ${event.action} ${event.id}${more}`)}\n`;
}

/** With docker's keys. The number of nanoseconds is larger than JavaScript's are exact, so it is put in as digits. */
function jsonOf(event: Event): string {
  const { timeNs, type, action, id } = event;
  const object = {
    Type: type,
    Action: action,
    Actor: { ID: id, Attributes: allAttributes(event) },
    scope: 'local',
    time: Number(timeNs / 1_000_000_000n),
  };
  return `${JSON.stringify(object).slice(0, -1)},"timeNano":${timeNs}}\n`;
}

/** Labels among the attributes, as docker has them, by key. */
function allAttributes({ attributes, labels }: Event): Record<string, string> {
  return Object.fromEntries(Object.entries({ ...labels, ...attributes }).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const FIELDS = ['Time', 'TimeNano', 'Type', 'Action', 'ID', 'Name', 'Image', 'Pod', 'PodID', 'ExitCode', 'Attributes'];

function fieldsOf(event: Event): Record<string, string> {
  const { attributes, timeNs, type, action, id, podId } = event;
  return {
    Time: timestamp(timeNs),
    TimeNano: String(timeNs),
    Type: type,
    Action: action,
    ID: id,
    Name: attributes['name'] ?? '',
    Image: attributes['image'] ?? '',
    Pod: attributes['pod'] ?? '',
    PodID: podId,
    ExitCode: attributes['exitCode'] ?? '',
    Attributes: Object.entries(allAttributes(event))
      .map(([key, value]) => `${key}=${value}`)
      .join(','),
  };
}
