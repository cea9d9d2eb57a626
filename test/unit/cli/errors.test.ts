import assert from 'node:assert/strict';
import { Metadata, status, type ServiceError } from '@grpc/grpc-js';
import { BerthError, kindOf } from '../../../src/base/errors';
import { exitCodeOf, fromStatus, fromStream, isNotFound, oneSentence, sentenceOf } from '../../../src/cli/errors';

function failed(code: status, details: string, reason?: string): ServiceError {
  const metadata = new Metadata();
  if (reason !== undefined) metadata.set('berth-reason', reason);
  return Object.assign(new Error(`${code} ${details}`), { code, details, metadata });
}

const sentence = (error: ServiceError) => sentenceOf(fromStatus(error, '/s'));

describe('errors of the command line', () => {
  it("are the daemon's sentence, without the code that gRPC puts before it", () => {
    const error = failed(status.NOT_FOUND, 'no container is named web');
    assert.equal(sentence(error), 'berth: no container is named web\n');
    assert.ok(isNotFound(fromStatus(error, '/s')));
  });

  it('of a stream that breaks are those of the connection', () => {
    const broken = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
    const lost = 'berth: the connection to the daemon on /s was lost; containers run on; see whether berthd does\n';
    assert.equal(sentenceOf(fromStream(broken, '/s')), lost);
    assert.equal(sentenceOf(fromStream(new Error('another'), '/s')), 'berth: another\n');
  });

  it('of the connection name the socket, the reason and the next step', () => {
    const begin = 'No connection established. Last error: Error: connect';
    const lines = [
      ['ENOENT /s', 'no daemon answers on /s (no such file); start it with: berthd'],
      ['ECONNREFUSED /s', 'no daemon answers on /s (the socket is there, nobody listens); start it with: berthd'],
      ['EACCES /s', '/s does not open (permission denied); only root may use it: sudo berth'],
    ] as const;
    for (const [errno, expected] of lines) {
      assert.equal(sentence(failed(status.UNAVAILABLE, `${begin} ${errno}.`)), `berth: ${expected}\n`);
    }
    const reset = 'Received RST_STREAM with code 2 triggered by internal client error: read ECONNRESET';
    for (const error of [failed(status.INTERNAL, reset), failed(status.CANCELLED, 'Call cancelled')]) {
      assert.match(sentence(error), /^berth: the connection to the daemon on \/s was lost; /);
    }
  });

  it('of a registry that refuses the connection are not taken for those of the daemon', () => {
    const details = 'pull app:1: connect ECONNREFUSED 10.0.0.7:5000';
    assert.equal(sentence(failed(status.UNAVAILABLE, details)), `berth: ${details}\n`);
  });

  it('have an exit code of their own only when a command did not start', () => {
    const code = (reason?: string) =>
      exitCodeOf(fromStatus(failed(status.FAILED_PRECONDITION, 'x', reason), '/s'), 125);
    assert.equal(code('command_not_found'), 127);
    assert.equal(code('command_not_invokable'), 126);
    assert.equal(code('something_new'), 125);
    assert.equal(code(), 125);
    assert.equal(exitCodeOf(new Error('x'), 1), 1);
  });

  it('keep their kind, and an unknown code is internal', () => {
    assert.equal(kindOf(fromStatus(failed(status.ALREADY_EXISTS, 'x'), '/s')), 'already_exists');
    assert.equal(kindOf(fromStatus(failed(99 as status, 'x'), '/s')), 'internal');
  });

  it('are one line that cannot steer the terminal', () => {
    const line = sentenceOf(new BerthError('internal', 'a\n  b\x1b[2J\u202e'));
    assert.equal(line, 'berth: a; b\\u001b[2J\\u202e\n');
  });

  it("of commander's are in the same form", () => {
    const suggested = oneSentence("error: unknown option '--naem'\n(Did you mean --name?)\n", 'berth run --help');
    assert.equal(suggested, "berth: unknown option '--naem'; did you mean --name?\n");
    const plain = oneSentence("error: missing required argument 'image'\n", 'berth run --help');
    assert.equal(plain, "berth: missing required argument 'image'; see: berth run --help\n");
  });
});
