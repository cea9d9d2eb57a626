/**
 * Makes an OCI image layout (image-spec, image-layout.md) of one small image that runs: the static busybox of this
 * machine, and a command that says where it is.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const busybox = '/bin/busybox';

const hello = `
echo "Hello from a container."
echo "  host name:        $(hostname)"
echo "  process 1:        $(cat /proc/1/comm), and I am process $$"
echo "  root file system: $(awk '$2 == "/" { print $3 }' /proc/mounts)"
echo "  network:          $(ls /sys/class/net | tr '\\n' ' ')"
`;

/** Writes the layout into `dir`. */
export function makeHelloImage(dir) {
  mkdirSync(join(dir, 'blobs/sha256'), { recursive: true });
  const blob = (mediaType, bytes) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(dir, 'blobs/sha256', hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const document = (mediaType, value) => blob(mediaType, Buffer.from(JSON.stringify(value)));

  const layer = blob('application/vnd.oci.image.layer.v1.tar', layerTar());
  const config = document('application/vnd.oci.image.config.v1+json', {
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['sh', '-c', hello] },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = document(mediaType, { schemaVersion: 2, mediaType, config, layers: [layer] });
  writeFileSync(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(join(dir, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
}

function layerTar() {
  const tree = mkdtempSync('/tmp/berth-hello-');
  try {
    for (const name of ['bin', 'dev', 'etc', 'proc', 'root', 'sys', 'tmp']) mkdirSync(join(tree, name));
    copyFileSync(busybox, join(tree, 'bin/busybox'));
    for (const name of execFileSync(busybox, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
      if (name !== 'busybox') symlinkSync('busybox', join(tree, 'bin', name));
    }
    const args = [
      '--sort=name',
      '--mtime=@0',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '-C',
      tree,
      '-cf',
      '-',
      '.',
    ];
    return execFileSync('tar', args, { maxBuffer: 64 * 1024 * 1024 });
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}
