import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';
import { repoRoot } from '../support/repo';

/** What each folder of src/ may import: the table "Layers" of the design. A folder may always import itself. */
const layers: Readonly<Record<string, readonly string[]>> = {
  base: [],
  events: ['base'],
  cri: [],
  config: ['base'],
  metrics: ['base'],
  store: ['base'],
  native: ['base'],
  dbus: ['base'],
  cgroup: ['base', 'native', 'dbus'],
  oci: ['base', 'cri', 'config', 'native (types)'],
  network: ['base', 'cri', 'config'],
  image: ['base', 'cri', 'config', 'events', 'metrics', 'native', 'store'],
  process: ['base', 'metrics', 'native'],
  sandbox: ['base', 'cri', 'config', 'events', 'store', 'cgroup', 'oci', 'network', 'process'],
  container: ['base', 'cri', 'config', 'events', 'store', 'cgroup', 'oci', 'image', 'process', 'sandbox'],
  streaming: ['base', 'config'],
  stats: ['base', 'cri', 'native', 'cgroup', 'image', 'sandbox', 'container'],
  build: ['base', 'cri', 'config', 'events', 'oci', 'image', 'sandbox', 'container'],
  rpc: [
    ...['base', 'cri', 'config', 'metrics', 'store', 'cgroup', 'oci', 'network', 'image', 'process'],
    ...['events', 'sandbox', 'container', 'streaming', 'stats', 'build'],
  ],
  cli: ['base', 'cri', 'config'],
};

/** Wiring and argv. */
const mayImportAll = ['daemon.ts', 'main.ts', 'measure.ts'];
/** Folders whose sub-folders are composed by the files directly in them, and by nobody else. */
const composedFolders = ['image'];
/** Programs are started by the addon (or by a person's command line, which is not the daemon). */
const mayStartProcesses = ['native', 'cli'];

interface Import {
  /** File below src/. */
  from: string;
  line: number;
  /** As it stands in the source. */
  specifier: string;
  /** File or folder below src/, or undefined for a package. */
  target: string | undefined;
  typeOnly: boolean;
}

describe('layering', () => {
  const src = join(repoRoot, 'src');

  it('lets imports flow down only', () => {
    assert.deepEqual(
      violations(sourceFiles(src), file => readFileSync(join(src, file), 'utf8')),
      [],
    );
  });

  describe('of made-up files', () => {
    const check = (files: Record<string, string>) => violations(Object.keys(files), file => files[file] ?? '');

    it('refuses an import upwards, of types too, and says what to do', () => {
      const advice = 'move what both need down into a folder that both may import, or pass it in';
      const refused = `sandbox may not import container; ${advice}`;
      assert.deepEqual(check({ 'sandbox/run.ts': "\nimport { x } from '../container/create';" }), [
        `src/sandbox/run.ts:2: "../container/create": ${refused}`,
      ]);
      assert.deepEqual(check({ 'sandbox/run.ts': "import type { X } from '../container';" }), [
        `src/sandbox/run.ts:1: "../container": ${refused}`,
      ]);
    });

    for (const statement of [
      "export * from '../native';",
      "import native = require('../native');",
      "const n = require('../native');",
      "void import('../native');",
      "import '../native';",
      "type N = import('../native').N;",
      "type N = typeof import('../native');",
    ]) {
      it(`sees ${statement}`, () => assert.equal(check({ 'container/x.ts': statement }).length, 1));
    }

    it('lets oci import types of native only', () => {
      assert.deepEqual(check({ 'oci/a.ts': "import type { Plan } from '../native';" }), []);
      assert.deepEqual(check({ 'oci/a.ts': "import { type Plan } from '../native';" }), []);
      assert.deepEqual(check({ 'oci/a.ts': "type P = import('../native').Plan;" }), []);
      assert.equal(check({ 'oci/a.ts': "import { plan } from '../native';" }).length, 1);
      assert.equal(check({ 'oci/a.ts': "import { type Plan, plan } from '../native';" }).length, 1);
      assert.equal(check({ 'oci/a.ts': "export * from '../native';" }).length, 1);
    });

    it('keeps the sub-folders of image apart', () => {
      assert.equal(check({ 'image/unpack/a.ts': "import { x } from '../registry/client';" }).length, 1);
      assert.equal(check({ 'image/unpack/a.ts': "import '../registry';", 'image/registry/index.ts': '' }).length, 1);
      assert.equal(check({ 'image/unpack/a.ts': "import { x } from '../pull';" }).length, 0);
      assert.equal(check({ 'image/unpack/a.ts': "import { x } from './b';" }).length, 0);
      assert.equal(check({ 'image/pull.ts': "import { x } from './registry/client';" }).length, 0);
    });

    it('lets the wiring import everything, and nobody the wiring', () => {
      assert.deepEqual(check({ 'daemon.ts': "import { x } from './native';\nimport './rpc/server';" }), []);
      assert.equal(check({ 'rpc/server.ts': "import { x } from '../daemon';" }).length, 1);
    });

    it('refuses folders that the table does not have', () => {
      assert.match(check({ 'utils/a.ts': '' })[0] ?? '', /^src\/utils is not in the table of layers/);
    });

    it('refuses child_process outside native and cli', () => {
      assert.equal(check({ 'network/cni.ts': "import { spawn } from 'node:child_process';" }).length, 1);
      assert.equal(check({ 'network/cni.ts': "import { spawn } from 'child_process';" }).length, 1);
      assert.equal(check({ 'daemon.ts': "import { spawn } from 'child_process';" }).length, 1);
      assert.deepEqual(check({ 'native/spawn.ts': "import { spawn } from 'node:child_process';" }), []);
    });
  });
});

function violations(files: string[], read: (file: string) => string): string[] {
  const unknown = new Set(files.filter(file => layerOf(file) === undefined).map(file => file.split('/')[0] ?? file));
  return [
    ...[...unknown].map(
      name => `src/${name} is not in the table of layers: put its files where they belong, or add it`,
    ),
    ...files
      .flatMap(file => importsOf(file, read(file)))
      .flatMap(one => {
        const refusal = refusalOf(one, files);
        return refusal === undefined ? [] : [`src/${one.from}:${one.line}: "${one.specifier}": ${refusal}`];
      }),
  ];
}

function refusalOf({ from, specifier, target, typeOnly }: Import, files: string[]): string | undefined {
  const layer = layerOf(from);
  if (/^(node:)?child_process$/.test(specifier) && !mayStartProcesses.includes(layer ?? '')) {
    return `only ${mayStartProcesses.join(' and ')} may start processes; go through the addon`;
  }
  if (target === undefined || layer === undefined || layer === 'everything') return undefined;
  const to = layerOf(target) ?? target;
  if (to === layer) return siblingRefusal(from, target, files);
  const allowed = layers[layer] ?? [];
  if (allowed.includes(to)) return undefined;
  if (allowed.includes(`${to} (types)`)) {
    return typeOnly ? undefined : `${layer} may import only types of ${to}; use import type, or pass the value in`;
  }
  const wanted = to === 'everything' ? target : to;
  return `${layer} may not import ${wanted}; move what both need down into a folder that both may import, or pass it in`;
}

function siblingRefusal(from: string, target: string, files: string[]): string | undefined {
  const [folder = '', fromSub = '', ...fromRest] = from.split('/');
  const [, targetSub = '', ...targetRest] = target.split('/');
  const inSubFolder = targetRest.length > 0 || files.some(file => file.startsWith(`${folder}/${targetSub}/`));
  if (!composedFolders.includes(folder) || fromRest.length === 0 || fromSub === targetSub || !inSubFolder) {
    return undefined;
  }
  return `${folder}/${fromSub} may not import ${folder}/${targetSub}; let a file directly in ${folder}/ compose the two`;
}

/** The folder below src/, `everything` for the files that wire, undefined for what the table does not know. */
function layerOf(path: string): string | undefined {
  const [first = ''] = path.split('/');
  if (mayImportAll.includes(first) || mayImportAll.includes(`${path}.ts`)) return 'everything';
  return Object.hasOwn(layers, first) ? first : undefined;
}

function sourceFiles(src: string): string[] {
  return readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter(file => file.endsWith('.ts') && !file.startsWith('cri/generated/'))
    .sort();
}

function importsOf(file: string, text: string): Import[] {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const found: Import[] = [];
  const add = (specifier: ts.Node | undefined, typeOnly: boolean) => {
    if (specifier === undefined || !ts.isStringLiteralLike(specifier)) return;
    const line = source.getLineAndCharacterOfPosition(specifier.getStart()).line + 1;
    const target = specifier.text.startsWith('.') ? normalize(join(dirname(file), specifier.text)) : undefined;
    found.push({ from: file, line, specifier: specifier.text, target, typeOnly });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, importsTypesOnly(node));
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isExternalModuleReference(node)) add(node.expression, false);
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, true);
    else if (ts.isCallExpression(node) && isLoading(node.expression)) add(node.arguments[0], false);
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function importsTypesOnly({ importClause }: ts.ImportDeclaration): boolean {
  if (importClause === undefined) return false;
  if (importClause.isTypeOnly) return true;
  const { name, namedBindings } = importClause;
  if (name !== undefined || namedBindings === undefined || !ts.isNamedImports(namedBindings)) return false;
  return namedBindings.elements.length > 0 && namedBindings.elements.every(element => element.isTypeOnly);
}

function isLoading(callee: ts.Expression): boolean {
  return callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require');
}
