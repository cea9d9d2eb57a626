/*
 * Says what an archive would be if it were unpacked (scan.h), and unpacks nothing: most builds look at what they are sent,
 * and find that they have done it all before.
 */
#ifndef BERTH_UNPACK_TARSCAN_H
#define BERTH_UNPACK_TARSCAN_H

#include "scan.h"

/*
 * Confined already; `fd` is a file with a plain tar. Prints what scan_paths would, with numbers of its own for inodes,
 * sizes of files alone and no time for the root; or, and then it is unpacking that has to tell, the one line `irregular -`: for an archive that
 * is damaged or compressed, and for one that has more in it than each file, directory, symbolic link and FIFO once, behind
 * the directory that it is in. 0 or -1.
 */
int scan_tar(const struct scan *s, int fd, struct failure *f);

#endif
