import assert from 'node:assert/strict';
import { configOf } from '../../../src/image/config-changes';

describe('changes to the config of an imported image', () => {
  const cases: [string[], object][] = [
    [['CMD ["/app", "-v"]'], { Cmd: ['/app', '-v'] }],
    [['cmd echo $HOME && ls'], { Cmd: ['/bin/sh', '-c', 'echo $HOME && ls'] }],
    [['ENTRYPOINT ["/init"]', 'ENTRYPOINT /other'], { Entrypoint: ['/bin/sh', '-c', '/other'] }],
    [['ENV A=b "C=d e" F=\'g h\' I=j\\ k'], { Env: ['A=b', 'C=d e', 'F=g h', 'I=j k'] }],
    [['ENV A=1', 'ENV B=2', 'ENV A=3'], { Env: ['B=2', 'A=3'] }],
    [['ENV GREETING hello  world'], { Env: ['GREETING=hello  world'] }],
    [['EXPOSE 80 53/UDP', 'EXPOSE 080'], { ExposedPorts: { '80/tcp': {}, '53/udp': {} } }],
    [['LABEL a=b "c d=e f"', 'LABEL a=g'], { Labels: { a: 'g', 'c d': 'e f' } }],
    [['USER 1000:1000', 'STOPSIGNAL SIGQUIT'], { User: '1000:1000', StopSignal: 'SIGQUIT' }],
    [['VOLUME /a /b', 'VOLUME ["/c d"]'], { Volumes: { '/a': {}, '/b': {}, '/c d': {} } }],
    [['WORKDIR /srv', 'WORKDIR app'], { WorkingDir: '/srv/app' }],
    [['WORKDIR app'], { WorkingDir: '/app' }],
    [[], {}],
  ];
  for (const [changes, config] of cases)
    it(`${JSON.stringify(changes)} are understood`, () => assert.deepEqual(configOf(changes), config));

  const refused: [string, RegExp][] = [
    ['RUN make', /"RUN" is not among CMD, ENTRYPOINT, /],
    ['constructor x', /"constructor" is not among/],
    ['CMD', /nothing follows/],
    ['CMD ["a"', /not JSON/],
    ['CMD ["a", 1]', /something else than texts/],
    ['ENV =x', /"=x" is not KEY=VALUE/],
    ['ENV A="b', /a " has no end/],
    ['EXPOSE 65536', /"65536" is not a port/],
    ['EXPOSE 80/icmp', /is not a port/],
    ['', /"" is not among/],
  ];
  for (const [change, why] of refused)
    it(`${JSON.stringify(change)} is refused`, () => assert.throws(() => configOf([change]), why));
});
