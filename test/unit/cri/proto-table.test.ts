import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
  type FileDescriptorProto,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt';
import { repoRoot } from '../../support/repo';

/** Columns of cri-v1.tsv: kind, parent, name, number, type, label. */
type Row = [kind: string, parent: string, name: string, number: string, type: string, label: string];

const packagePrefix = '.runtime.v1.';

describe('proto/runtime/v1/api.proto', () => {
  let table: string[];
  let compiled: string[];

  before(() => {
    const text = readFileSync(join(repoRoot, 'test/support/cri-v1.tsv'), 'utf8');
    table = text.replace(/\n$/, '').split('\n').slice(1);
    compiled = rowsOfFile(compile()).map(row => row.join('\t'));
  });

  it('has every row of the table', () => {
    assert.notEqual(table.length, 0);
    const have = new Set(compiled);
    const missing = table.filter(row => !have.has(row));
    assert.deepEqual(missing, []);
  });

  it('has nothing that the table has not', () => {
    const known = new Set(table);
    const surplus = compiled.filter(row => !known.has(row));
    assert.deepEqual(surplus, []);
    assert.equal(compiled.length, table.length);
  });
});

function compile(): FileDescriptorProto {
  const folder = mkdtempSync(join(tmpdir(), 'berth-proto-'));
  try {
    const output = join(folder, 'api.pb');
    execFileSync('protoc', ['-Iproto', `--descriptor_set_out=${output}`, 'runtime/v1/api.proto'], { cwd: repoRoot });
    const file = fromBinary(FileDescriptorSetSchema, readFileSync(output)).file[0];
    assert(file, 'protoc wrote no file descriptor');
    return file;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function rowsOfFile(file: FileDescriptorProto): Row[] {
  return [
    ...file.service.flatMap(service => {
      const name = `${file.package}.${service.name}`;
      const rpcs = service.method.map((rpc): Row => {
        const type = `${shortName(rpc.inputType)} -> ${shortName(rpc.outputType)}`;
        const label = [rpc.clientStreaming && 'client streaming', rpc.serverStreaming && 'server streaming'];
        return ['rpc', name, rpc.name, '', type, label.filter(Boolean).join(',')];
      });
      return [['service', '', name, '', '', ''] satisfies Row, ...rpcs];
    }),
    ...file.messageType.flatMap(message => rowsOfMessage(message, message.name)),
    ...file.enumType.flatMap(type => rowsOfEnum(type, type.name)),
  ];
}

function rowsOfMessage(message: DescriptorProto, name: string): Row[] {
  const maps = new Map(
    message.nestedType.filter(nested => nested.options?.mapEntry).map(nested => [nested.name, nested]),
  );
  return [
    ['message', '', name, '', '', ''],
    ...message.field.map((field): Row => {
      const map = maps.get(shortName(field.typeName).slice(name.length + 1));
      const repeated = field.label === Label.REPEATED && !map;
      const label = [repeated && 'repeated', field.options?.deprecated && 'deprecated'].filter(Boolean).join(',');
      return ['field', name, field.name, String(field.number), map ? mapType(map) : typeName(field), label];
    }),
    ...message.nestedType
      .filter(nested => !maps.has(nested.name))
      .flatMap(nested => rowsOfMessage(nested, `${name}.${nested.name}`)),
    ...message.enumType.flatMap(type => rowsOfEnum(type, `${name}.${type.name}`)),
  ];
}

function rowsOfEnum(type: EnumDescriptorProto, name: string): Row[] {
  return [
    ['enum', '', name, '', '', ''],
    ...type.value.map((value): Row => ['value', name, value.name, String(value.number), '', '']),
  ];
}

function mapType(entry: DescriptorProto): string {
  return `map<${entry.field.map(typeName).join(',')}>`;
}

function typeName(field: FieldDescriptorProto): string {
  return field.typeName === '' ? Type[field.type].toLowerCase() : shortName(field.typeName);
}

function shortName(fullName: string): string {
  return fullName.startsWith(packagePrefix) ? fullName.slice(packagePrefix.length) : fullName;
}
