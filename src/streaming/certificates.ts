import { statSync, readFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { createSecureContext } from 'node:tls';
import { BerthError, messageOf } from '../base/errors';
import type { Logger } from '../base/log';

/** A certificate and its key, read again when the files have changed. */
export class Certificates {
  private constructor(
    private readonly certFile: string,
    private readonly keyFile: string,
    private seen: string,
    public current: { cert: Buffer; key: Buffer },
  ) {}

  /** Undefined when none is configured; throws what is wrong with the files. */
  static open(certFile: string, keyFile: string): Certificates | undefined {
    if (certFile === '' && keyFile === '') return undefined;
    if (certFile === '' || keyFile === '') {
      throw new BerthError('invalid_argument', 'streaming: a certificate and its key go together', {
        hint: 'set both tls_cert_file and tls_key_file',
      });
    }
    try {
      const seen = stampOf(certFile, keyFile);
      return new Certificates(certFile, keyFile, seen, read(certFile, keyFile));
    } catch (error) {
      throw new BerthError(
        'failed_precondition',
        `streaming: the certificate ${certFile} with the key ${keyFile} cannot be used: ${messageOf(error)}`,
        { cause: error },
      );
    }
  }

  /** Looks at the files whenever a client connects: nothing else has to notice that they changed. */
  keepCurrent(server: Server, log: Logger): void {
    server.prependListener('connection', () => {
      try {
        const stamp = stampOf(this.certFile, this.keyFile);
        if (stamp === this.seen) return;
        this.current = read(this.certFile, this.keyFile);
        this.seen = stamp;
        (server as TlsServer).setSecureContext({ ...this.current, minVersion: 'TLSv1.2' });
        log.info('streaming: the certificate has changed', { file: this.certFile });
      } catch (error) {
        // Half written, or a pair that is not one yet: the old one goes on, and the next client tries again.
        log.warn(`streaming: the certificate ${this.certFile} has changed and cannot be used: ${messageOf(error)}`);
      }
    });
  }
}

function stampOf(...files: string[]): string {
  return files
    .map(file => {
      const { ino, size, mtimeMs } = statSync(file);
      return `${ino}/${size}/${mtimeMs}`;
    })
    .join(' ');
}

function read(certFile: string, keyFile: string): { cert: Buffer; key: Buffer } {
  const pair = { cert: readFileSync(certFile), key: readFileSync(keyFile) };
  createSecureContext(pair); // throws when they do not fit each other
  return pair;
}
