import assert from 'node:assert/strict';
import { ContainerConfig } from '../../../src/cri';
import { cdiChanges } from '../../../src/oci/cdi/edits';
import { cdiEdits } from '../../../src/oci/cdi/find';
import { requestedCdi } from '../../../src/oci/cdi/names';
import { cdiSpec } from '../../../src/oci/cdi/spec';

const named = (partial: object) => requestedCdi(ContainerConfig.fromPartial(partial as never)).map(({ text }) => text);
const edits = (containerEdits: object) => ({
  cdiVersion: '0.6.0',
  kind: 'v.com/c',
  devices: [{ name: 'one', containerEdits }],
});
const spec = (document: object, file = '/etc/cdi/a.json') => cdiSpec(document, file);
const changes = (containerEdits: object) => {
  const one = spec(edits(containerEdits)).devices.get('one') ?? assert.fail('no device');
  return cdiChanges([one]);
};

describe('CDI', () => {
  it('names come from the field, then from annotations of the request, each once', () => {
    assert.deepEqual(
      named({
        CDIDevices: [{ name: 'v.com/c=two' }, { name: 'v.com/c=one' }],
        annotations: {
          'cdi.k8s.io/plugin': 'v.com/c=one,v.com/c=a.b:0',
          'other/cdi.k8s.io': 'v.com/c=x',
          'io.cdi.k8s': 'v.com/c=y',
        },
      }),
      ['v.com/c=two', 'v.com/c=one', 'v.com/c=a.b:0'],
    );
  });

  it('names that are none are refused', () => {
    for (const name of [
      '',
      'one',
      'v.com/c',
      'v.com=one',
      '/c=one',
      'v.com/c=',
      '1v/c=one',
      'v/c=a/b',
      'v/c=-',
      'v/c d=e',
    ]) {
      assert.throws(() => named({ CDIDevices: [{ name }] }), /no name of a CDI device/, name);
      assert.throws(() => named({ annotations: { 'cdi.k8s.io/x': name } }), /annotation cdi.k8s.io\/x/, name);
    }
  });

  it('specs of all versions are read, and those of the future are refused by their version', () => {
    for (const cdiVersion of ['0.3.0', '0.5.0', '0.8.0', '1.0.0', '1.1.0']) spec({ ...edits({}), cdiVersion });
    assert.throws(() => spec({ ...edits({}), cdiVersion: '2.0.0', new: 1 }), /cdiVersion 2.0.0 is not known/);
  });

  it('specs that are not right are refused, with the file and the place', () => {
    for (const [document, why] of [
      [[], /the document/],
      [{ ...edits({}), kind: 'v' }, /kind: is not vendor\/class/],
      [{ ...edits({}), devices: [] }, /devices: names no device/],
      [{ ...edits({}), more: 1 }, /more/],
      [edits({ env: ['X'] }), /devices.0.containerEdits.env.0: is not KEY=value/],
      [edits({ deviceNodes: [{ path: 'dev/x' }] }), /deviceNodes.0.path: is not an absolute path/],
      [edits({ deviceNode: [] }), /deviceNode/],
      [edits({ mounts: [{ hostPath: '/a' }] }), /mounts.0.containerPath/],
      [{ ...edits({}), devices: [1, 2].map(() => ({ name: 'x', containerEdits: {} })) }, /a device twice/],
    ] as const) {
      assert.throws(
        () => spec(document),
        (error: Error) => /^CDI spec \/etc\/cdi\/a\.json: /.test(error.message) && why.test(error.message),
        String(why),
      );
    }
  });

  it('edits common to a spec are made once, before those of its devices', () => {
    const env = (name: string) => ({ env: [`${name}=1`] });
    const document = {
      ...edits({}),
      containerEdits: env('COMMON'),
      devices: ['one', 'two'].map(name => ({ name, containerEdits: env(name) })),
    };
    const directories = [{ specs: [spec(document)], problems: [] }];
    const all = cdiEdits(
      directories,
      requestedCdi(ContainerConfig.fromPartial({ CDIDevices: [{ name: 'v.com/c=two' }, { name: 'v.com/c=one' }] })),
    );
    assert.deepEqual(cdiChanges(all).env, ['COMMON=1', 'two=1', 'one=1']);
  });

  it('devices of a later directory win, of one directory they must be there once', () => {
    const [name] = requestedCdi(ContainerConfig.fromPartial({ CDIDevices: [{ name: 'v.com/c=one' }] }));
    const of = (file: string) => spec(edits({ env: [`FROM=${file}`] }), file);
    const find = (...directories: string[][]) => {
      const read = directories.map(files => ({
        specs: files.map(of),
        problems: files.length > 0 ? [] : ['CDI spec /z: broken'],
      }));
      return cdiChanges(cdiEdits(read, name ? [name] : [])).env;
    };
    assert.deepEqual(find(['/etc/cdi/a'], ['/run/cdi/b']), ['FROM=/run/cdi/b']);
    assert.deepEqual(find(['/etc/cdi/a'], []), ['FROM=/etc/cdi/a']);
    assert.deepEqual(find(['/etc/cdi/a', '/etc/cdi/c'], ['/run/cdi/b']), ['FROM=/run/cdi/b']);
    assert.throws(() => find(['/etc/cdi/a', '/etc/cdi/c']), /in two specs, \/etc\/cdi\/a and \/etc\/cdi\/c/);
    assert.throws(() => find([], []), /v.com\/c=one: no spec has it; CDI spec \/z: broken/);
  });

  it('mounts are what their options say', () => {
    const [mount] = changes({
      mounts: [{ hostPath: '/h', containerPath: '/c/', options: ['ro', 'nosuid', 'nodev', 'rbind', 'rprivate'] }],
    }).mounts;
    assert.deepEqual(mount, {
      destination: '/c',
      type: 'bind',
      source: '/h',
      options: [],
      readonly: true,
      nosuid: true,
      nodev: true,
      noexec: false,
      recursive: true,
      propagation: 'private',
    });
    const [tmpfs] = changes({
      mounts: [{ hostPath: 'tmpfs', containerPath: '/t', type: 'tmpfs', options: ['size=1m', 'noexec'] }],
    }).mounts;
    assert.deepEqual([tmpfs?.type, tmpfs?.options, tmpfs?.noexec], ['tmpfs', ['size=1m'], true]);
    for (const [more, why] of [
      [{ options: ['strange'] }, /"strange" is not known/],
      [{ containerPath: '/proc/sys' }, /nothing may be mounted there/],
      [{ containerPath: '/a/..' }, /nothing may be mounted there/],
      [{ hostPath: 'h' }, /not absolute/],
      [{ type: 'ext4' }, /neither bind nor tmpfs/],
    ] as const) {
      assert.throws(() => changes({ mounts: [{ hostPath: '/h', containerPath: '/c', ...more }] }), why);
    }
  });

  it('groups are added, but never that of root', () => {
    assert.deepEqual(changes({ additionalGids: [5, 0, 7, 5] }).groups, [5, 7]);
  });

  it('hooks are kept in their order, by when they run', () => {
    const hook = (hookName: string, path: string, more = {}) => ({ hookName, path, ...more });
    assert.deepEqual(
      changes({
        hooks: [
          hook('createContainer', '/a', { args: ['a', 'x'], env: ['K=v'], timeout: 5 }),
          hook('createRuntime', '/b'),
          hook('createContainer', '/c', { timeout: 0 }),
        ],
      }).hooks,
      {
        createContainer: [
          { path: '/a', args: ['a', 'x'], env: ['K=v'], timeout: 5 },
          { path: '/c', args: [], env: [] },
        ],
        createRuntime: [{ path: '/b', args: [], env: [] }],
      },
    );
    assert.throws(
      () => changes({ hooks: [hook('atEnd', '/a')] }),
      /hook \/a: there is no "atEnd" hook; there are prestart/,
    );
  });

  it('edits that are not made are refused by name, not passed over', () => {
    assert.throws(
      () => changes({ netDevices: [{ hostInterfaceName: 'eth7', name: 'net0' }] }),
      /network devices.*eth7/,
    );
    assert.throws(() => changes({ intelRdt: { closID: 'x' } }), /intelRdt/);
  });
});
