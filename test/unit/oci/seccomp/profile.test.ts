import assert from 'node:assert/strict';
import { parseProfile, resolveProfile, type ProfileFacts } from '../../../../src/oci/seccomp/profile';

const facts: ProfileFacts = { capabilities: ['CHOWN', 'SYS_TIME'], arch: 'x64', kernelRelease: '6.8.12-generic' };
const parse = (document: unknown) => parseProfile(JSON.stringify(document), 'a.json');
const names = (document: unknown, over: Partial<ProfileFacts> = {}) =>
  resolveProfile(parse(document), { ...facts, ...over }).syscalls.flatMap(rule => rule.names);
const rule = (name: string, more: object = {}) => ({ names: [name], action: 'SCMP_ACT_ALLOW', ...more });

describe('a seccomp profile', () => {
  it('is read in the OCI form', () => {
    const document = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X32'],
      flags: ['SECCOMP_FILTER_FLAG_LOG'],
      syscalls: [
        rule('read'),
        rule('socket', { action: 'SCMP_ACT_ERRNO', errnoRet: 1, args: [{ index: 0, value: 16, op: 'SCMP_CMP_EQ' }] }),
      ],
    };
    assert.deepEqual(resolveProfile(parse(document), facts), {
      ...document,
      syscalls: [
        rule('read'),
        {
          names: ['socket'],
          action: 'SCMP_ACT_ERRNO',
          errnoRet: 1,
          args: [{ index: 0, value: 16n, op: 'SCMP_CMP_EQ' }],
        },
      ],
    });
  });

  it('is read in the form that Docker and Podman have, with conditions', () => {
    const document = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrno: 'ENOSYS',
      archMap: [
        { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
        { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
      ],
      syscalls: [
        { name: 'read', action: 'SCMP_ACT_ALLOW', args: null, comment: '', includes: {}, excludes: {} },
        rule('settime', { includes: { caps: ['CAP_SYS_TIME'] } }),
        rule('both', { includes: { caps: ['CAP_SYS_TIME', 'CAP_SYS_ADMIN'] } }),
        rule('unless-one', { excludes: { caps: ['CAP_SYS_ADMIN', 'CAP_CHOWN'] } }),
        rule('unless-none', { excludes: { caps: ['CAP_SYS_ADMIN'] } }),
        rule('amd64', { includes: { arches: ['amd64', 'x32'] } }),
        rule('s390', { includes: { arches: ['s390x'] } }),
        rule('not-amd64', { excludes: { arches: ['amd64'] } }),
        rule('old', { includes: { minKernel: '4.8' } }),
        rule('new', { includes: { minKernel: '6.9' } }),
        rule('not-old', { excludes: { minKernel: '6.8' } }),
        { names: ['bpf'], action: 'SCMP_ACT_ERRNO', errno: 'EPERM', errnoRet: null },
      ],
    };
    assert.deepEqual(names(document), ['read', 'settime', 'unless-none', 'amd64', 'old', 'bpf']);
    assert.deepEqual(names(document, { arch: 'arm64', kernelRelease: '6.10.0', capabilities: [] }), [
      'read',
      'unless-one',
      'unless-none',
      'not-amd64',
      'old',
      'new',
      'bpf',
    ]);
    const resolved = resolveProfile(parse(document), facts);
    assert.equal(resolved.defaultErrnoRet, 38);
    assert.equal(resolved.syscalls.at(-1)?.errnoRet, 1);
    assert.deepEqual(resolved.architectures, ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
  });

  it('keeps all 64 bits of a value', () => {
    const text = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_TRAP","args":[
      {"index":1,"value":18446744073709551615,"valueTwo":9007199254740993,"op":"SCMP_CMP_MASKED_EQ"}]}]}`;
    const [read] = parseProfile(text, 'a.json').syscalls;
    assert.deepEqual(read?.args, [
      { index: 1, value: 2n ** 64n - 1n, valueTwo: 2n ** 53n + 1n, op: 'SCMP_CMP_MASKED_EQ' },
    ]);
  });

  it('guards against Spectre as the kernel does by itself, unless flags say otherwise', () => {
    assert.deepEqual(resolveProfile(parse({ defaultAction: 'SCMP_ACT_ALLOW' }), facts).flags, [
      'SECCOMP_FILTER_FLAG_SPEC_ALLOW',
    ]);
    assert.deepEqual(resolveProfile(parse({ defaultAction: 'SCMP_ACT_ALLOW', flags: [] }), facts).flags, []);
  });

  it('is refused with line or field', () => {
    const texts: [string, RegExp][] = [
      ['', /a\.json: line 1: no JSON/],
      ['{\n "defaultAction": "SCMP_ACT_ALLOW",\n oops\n}', /a\.json: line 3: no JSON/],
      ['{\n "defaultAction": "SCMP_ACT_ALLOW"', /a\.json: line 2: no JSON/],
      ['[]', /the profile: must be an object/],
      ['{}', /defaultAction: must be an action, such as SCMP_ACT_ERRNO/],
    ];
    for (const [text, message] of texts) assert.throws(() => parseProfile(text, 'a.json'), message);
    const syscalls = (one: object) => ({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: [rule('read'), one] });
    const documents: [object, RegExp][] = [
      [syscalls({ names: ['x'] }), /syscalls\[1\]\.action: must be an action/],
      [syscalls({ names: 'x', action: 'A' }), /syscalls\[1\]\.names: must be a list of text/],
      [syscalls({ name: 'x', names: ['y'], action: 'A' }), /syscalls\[1\]: has both "name" and "names"/],
      [
        syscalls(rule('x', { args: [{ index: 6, value: 1, op: 'A' }] })),
        /syscalls\[1\]\.args\[0\]\.index: is not one of/,
      ],
      [
        syscalls(rule('x', { args: [{ index: 0, value: -1, op: 'A' }] })),
        /syscalls\[1\]\.args\[0\]\.value: must be a whole number, not negative/,
      ],
      [syscalls(rule('x', { args: [{ index: 0, value: 1.5, op: 'A' }] })), /args\[0\]\.value: must be a whole number/],
      [syscalls(rule('x', { args: [{ index: 0, value: 1 }] })), /args\[0\]\.op: must be a comparison/],
      [syscalls(rule('x', { errnoRet: 4096 })), /syscalls\[1\]\.errnoRet: is no errno/],
      [syscalls(rule('x', { errno: 'ENOSUCH' })), /syscalls\[1\]\.errno: is no errno/],
      [
        syscalls(rule('x', { includes: { minKernel: 'new' } })),
        /syscalls\[1\]\.includes\.minKernel: must be major\.minor/,
      ],
      [
        { defaultAction: 'A', architectures: ['a'], archMap: [{ architecture: 'b' }] },
        /has both "architectures" and "archMap"/,
      ],
      [{ defaultAction: 'A', listenerPath: '/run/agent' }, /listenerPath: asks for an agent/],
    ];
    for (const [document, message] of documents) assert.throws(() => parse(document), message);
    const tooBig = `{"defaultAction":"A","syscalls":[{"names":["x"],"action":"A","args":[{"index":0,"value":18446744073709551616,"op":"B"}]}]}`;
    assert.throws(() => parseProfile(tooBig, 'a.json'), /value: does not fit 64 bits/);
  });
});
