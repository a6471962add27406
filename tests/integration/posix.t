#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# posix.t -- every operation on a real mount: what works, and the errors that are documented
#
# usage: posix.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"

make_device 256M
mount_fs
cd "$mnt" || bail_out "cannot enter the mount"
free_at_start=$(stat_of free_blocks)

# op WANTED NAME ARGUMENT...: one call of fsop.
op() {
	local want=$1 name=$2
	shift 2
	is "$("$fsop" "$@" 2>&1)" "$want" "$name"
}

# ---- lookup, create, mkdir --------------------------------------------------

op ENOENT "lookup: no such name" open none r
op ok "create: a file" open file rw,creat,excl
op EEXIST "create: O_EXCL on one that is there" open file rw,creat,excl
op ok "create: without O_EXCL opens it" open file rw,creat
op ENOTDIR "lookup: below a file" open file/x r
op ENOENT "create: in a directory that is not there" open none/x rw,creat
is "$(stat -c '%F %s %h %a' file)" "regular empty file 0 1 644" "create: attributes"
op ok "mkdir" mkdir dir 755
op EEXIST "mkdir: the name is taken" mkdir dir 755
op EEXIST "mkdir: the name is that of a file" mkdir file 755
op ENOENT "mkdir: no parent" mkdir none/dir 755
is "$(stat -c '%F %h' dir)" "directory 2" "mkdir: attributes"
mkdir dir/sub
is "$(stat -c %h dir)" 3 "mkdir: a subdirectory counts as a link of its parent"
op EISDIR "open: a directory for writing" open dir w
op ENOTDIR "open: O_DIRECTORY on a file" open file r,dir
(umask 027 && : >masked && mkdir masked.d)
is "$(stat -c %a masked masked.d | paste -sd' ')" "640 750" "create, mkdir: umask is applied"
mknod fifo p && is "$(stat -c %F fifo)" fifo "mknod: fifo"
mknod null c 1 3 && is "$(stat -c '%F %t %T' null)" "character special file 1 3" "mknod: device"

# ---- names ------------------------------------------------------------------

long=$(printf 'n%.0s' $(seq 255))
op ok "names: 255 bytes" open "$long" rw,creat,excl
op ENAMETOOLONG "names: 256 bytes, create" open "${long}n" rw,creat
op ENAMETOOLONG "names: 256 bytes, lookup" open "${long}n" r
op ENAMETOOLONG "names: 256 bytes, mkdir" mkdir "${long}n" 755
odd=$'sp ace\ttab\nline\\back*\xff\xfe'
op ok "names: any bytes" open "$odd" rw,creat,excl
op EEXIST "names: any bytes, found again" open "$odd" rw,creat,excl
is "$(find . -name 'sp ace*' -print0 | tr -d '\0')" "./$odd" "names: any bytes, in readdir"
rm -- "$odd" "$long"

# ---- readdir ----------------------------------------------------------------

mkdir many
(cd many && seq -f 'entry-%g-with-a-longer-name' 2000 | xargs touch)
is "$(ls many | wc -l)" 2000 "readdir: 2000 entries"
is "$(ls many | sort -u | wc -l)" 2000 "readdir: each once"
is "$(ls -a many | head -n 2 | paste -sd' ')" ". .." "readdir: the dots"
is "$(ls -la many | grep -c '^-rw-r--r-- ')" 2000 "readdir: with attributes"
op 2000 "readdir: while each entry that was read is removed" read-removing many
is "$(ls many | wc -l)" 0 "readdir: nothing is left"
(cd many && seq 1 2000 | xargs touch)
(cd many && seq 1 2 2000 | xargs rm) &
remover=$!
seen=$(ls many | sort -n | awk '$1 % 2 == 0' | uniq | wc -l)
wait $remover
is "$seen" 1000 "readdir: entries that stay are seen while others go"
op ENOTEMPTY "rmdir: not empty" rmdir many
rm -r many && ok "rm -r of 1000 entries" || not_ok "rm -r of 1000 entries"

# ---- write, read, append ----------------------------------------------------

head -c 3000001 /dev/urandom >"$work/ground/random"
cp "$work/ground/random" data
check "write, read: 3 MB" cmp "$work/ground/random" data
is "$(stat -c %s data)" 3000001 "write: size"
dd if="$work/ground/random" of=odd bs=4093 status=none
check "write: in pieces of 4093 bytes" cmp "$work/ground/random" odd
dd if="$work/ground/random" of=direct bs=65536 count=40 oflag=direct status=none
check "write: O_DIRECT" cmp -n $((40 * 65536)) "$work/ground/random" direct
is "$(dd if=direct bs=65536 iflag=direct status=none | sha256sum)" "$(sha256sum <direct)" \
	"read: O_DIRECT equals the page cache"
hex() { od -An -v -tx1 | tr -d ' \n'; }
printf XYZ | dd of=data bs=1 seek=4095 conv=notrunc status=none
is "$(dd if=data bs=1 skip=4094 count=5 status=none | hex)" \
	"$(dd if="$work/ground/random" bs=1 skip=4094 count=1 status=none | hex)58595a$(
		dd if="$work/ground/random" bs=1 skip=4098 count=1 status=none | hex)" \
	"write: across a block's edge"
is "$(head -c 10 /dev/zero | dd of=data bs=10 seek=999999999 conv=notrunc status=none; stat -c %s data)" \
	10000000000 "write: far behind the end"
truncate -s 0 data
: >log
"$fsop" append log 500 first >/dev/null &
writer=$!
"$fsop" append log 500 second >/dev/null
wait $writer
is "$(stat -c %s log)" 64000 "append: two processes, nothing is lost"
is "$(grep -cE '^(first|second) +[0-9]{52}$' log)" 1000 "append: no record is torn"
is "$(awk '{ n[$1]++ } END { print n["first"], n["second"] }' log)" "500 500" \
	"append: each record once"

# ---- truncate, fallocate, holes ---------------------------------------------

cp "$work/ground/random" t
truncate -s 5000 t
is "$(sum_of t)" "$(head -c 5000 "$work/ground/random" | sha256sum | cut -c1-32)" "truncate: down"
truncate -s 20000 t
is "$(tail -c 15000 t | tr -d '\0' | wc -c)" 0 "truncate: up, zeros behind the old end"
is "$(stat -c %b t)" 16 "truncate: no blocks for what it has added"
op EISDIR "truncate: a directory" truncate dir 0
op EINVAL "truncate: a negative size" truncate t -1
op ok "truncate: to the largest size" truncate t 0x7ffffffffffffffe
is "$(stat -c %s t)" 9223372036854775806 "truncate: and it is told"
truncate -s 0 t
is "$(stat -c %b t)" 0 "truncate: to nothing frees all"

op ok "fallocate" fallocate t extend 0 1048576
is "$(stat -c '%s %b' t)" "1048576 2048" "fallocate: size and blocks"
is "$(tr -d '\0' <t | wc -c)" 0 "fallocate: reads as zeros"
op ok "fallocate: keep size" fallocate t keep 1048576 4096
is "$(stat -c '%s %b' t)" "1048576 2056" "fallocate: keep size"
op EOPNOTSUPP "fallocate: collapse is not offered" fallocate t collapse 0 4096
op ENOSPC "fallocate: more than there is" fallocate t extend 0 $((1 << 40))
is "$(stat -c '%s %b' t)" "1048576 2056" "fallocate: which changes nothing"
cp "$work/ground/random" p
op ok "punch" fallocate p punch 5000 100000
is "$(stat -c %s p)" 3000001 "punch: the size stays"
is "$(tail -c +5001 p | head -c 100000 | tr -d '\0' | wc -c)" 0 "punch: reads as zeros"
is "$( (head -c 5000 p; tail -c +105001 p) | sha256sum)" \
	"$( (head -c 5000 "$work/ground/random"; tail -c +105001 "$work/ground/random") | sha256sum)" \
	"punch: the rest is untouched"
op 8192 "punch: SEEK_HOLE finds it" seek p hole 0
op 102400 "punch: SEEK_DATA behind it" seek p data 8192

truncate -s 64M sparse
printf x | dd of=sparse bs=1 seek=33554432 conv=notrunc status=none
is "$(du -k sparse | cut -f1)" 4 "sparse: one block for one byte"
op 33554432 "sparse: SEEK_DATA" seek sparse data 0
op 33558528 "sparse: SEEK_HOLE" seek sparse hole 33554432
op ENXIO "sparse: SEEK_DATA behind all data" seek sparse data 33558528
op ENXIO "sparse: SEEK_HOLE behind the end" seek sparse hole 67108865
cp --sparse=always --reflink=never sparse sparse2
is "$(du -k sparse2 | cut -f1)" 4 "sparse: cp keeps the holes"
check "sparse: and the contents" cmp sparse sparse2

# ---- unlink, rmdir ----------------------------------------------------------

op ok "unlink: an open file lives on" unlinked gone
op ENOENT "unlink: no such name" unlink gone
op EISDIR "unlink: a directory" unlink dir
op ENOTDIR "rmdir: a file" rmdir file
op ENOENT "rmdir: no such name" rmdir none
op ENOTEMPTY "rmdir: not empty" rmdir dir
op ok "rmdir" rmdir dir/sub
is "$(stat -c %h dir)" 2 "rmdir: the parent loses a link"
exec 7<dir
mkdir empty && exec 8<empty && rmdir empty
op ENOENT "create: in a directory that was removed" open /proc/self/fd/8/x rw,creat
exec 7<&- 8<&-

# ---- rename -----------------------------------------------------------------

echo a >a
echo b >b
inode=$(stat -c %i a)
op ok "rename: over a file" rename a b
is "$(cat b) $(stat -c %i b)" "a $inode" "rename: the name leads to the other inode"
op ENOENT "rename: no such name" rename a b
mkdir d1 d2 d2/full
op ok "rename: over an empty directory" rename d1 d2/full
op ENOTEMPTY "rename: over a full directory" rename dir d2
op EISDIR "rename: a file over a directory" rename b d2
op ENOTDIR "rename: a directory over a file" rename d2 b
op EINVAL "rename: into its own subtree" rename d2 d2/full/x
echo c >c
op EEXIST "rename: NOREPLACE on a taken name" renameat2 b c noreplace
is "$(cat b c | paste -sd' ')" "a c" "rename: which changes nothing"
op ok "rename: NOREPLACE" renameat2 b e noreplace
op ok "rename: EXCHANGE" renameat2 e c exchange
is "$(cat e c | paste -sd' ')" "c a" "rename: EXCHANGE has exchanged them"
op ok "rename: EXCHANGE of a file and a directory" renameat2 e d2/full exchange
is "$(stat -c %F e d2/full | paste -sd,)" "directory,regular file" "rename: both have moved"
op ENOENT "rename: EXCHANGE with nothing" renameat2 c none exchange
is "$(stat -c %h . d2 | paste -sd' ')" "$(find . -maxdepth 1 -type d | wc -l | awk '{ print $1 + 1 }') 2" \
	"rename: links of both parents"
mkdir -p r1/r2/r3 && mv r1/r2/r3 r4
is "$(cd r4/.. && pwd -P)" "$mnt" "rename: .. follows a moved directory"

# ---- links ------------------------------------------------------------------

echo text >l1
op ok "link" link l1 l2
is "$(stat -c '%h %i' l2)" "2 $(stat -c %i l1)" "link: two names of one inode"
op EEXIST "link: the name is taken" link l1 l2
op ENOENT "link: of nothing" link none l3
op EPERM "link: of a directory" link dir l3
for i in $(seq 100); do ln l1 "dir/l$i"; done
is "$(stat -c %h l1)" 102 "link: counts"
rm l1 dir/l*
is "$(cat l2) $(stat -c %h l2)" "text 1" "link: the last name keeps the file"
op ok "symlink" symlink l2 s
is "$(readlink s) $(cat s) $(stat -c '%F %s' s)" "l2 text symbolic link 2" "symlink, readlink"
op EEXIST "symlink: the name is taken" symlink x s
target=$(printf 't%.0s' $(seq 4095))
op ok "symlink: 4095 bytes" symlink "$target" s2
is "$(readlink s2)" "$target" "symlink: 4095 bytes come back"
op ENAMETOOLONG "symlink: 4096 bytes" symlink "${target}t" s3
ln -s s4 s5 && ln -s s5 s4
op ELOOP "symlink: a circle" open s4 r

# ---- attributes -------------------------------------------------------------

chmod 6751 file
is "$(stat -c %a file)" 6751 "chmod"
chown 1234:5678 file
is "$(stat -c '%u %g' file)" "1234 5678" "chown"
op ok "utimes: ns and years behind 2106" times file
ctime=$(stat -c %Z file)
touch -m -d '2001-02-03 04:05:06.789' file
is "$(stat -c %y file | cut -c1-23)" "2001-02-03 04:05:06.789" "utimes: mtime"
in_range "$(stat -c %Z file)" "$ctime" "$(($(date +%s) + 1))" "utimes: ctime is now"
touch -d 2001-01-01 file && echo x >>file
in_range "$(stat -c %Y file)" "$(($(date +%s) - 60))" "$(($(date +%s) + 1))" "write: sets mtime"
mkdir sgid && chown 0:777 sgid && chmod 2775 sgid && : >sgid/f && mkdir sgid/d
is "$(stat -c '%g %a' sgid/f sgid/d | paste -sd,)" "777 644,777 2755" \
	"setgid directory: files get its group, directories its bit too"
cp /bin/true suid && chown 1234 suid && chmod 4755 suid
setpriv --reuid 1234 --clear-groups --regid 1234 sh -c 'echo >>suid' 2>/dev/null
is "$(stat -c %a suid)" 755 "a write by another than root takes the setuid bit away"

df=$(df -k --output=size,used,avail . | tail -n 1)
read -r size used avail <<<"$df"
is $((used + avail)) "$size" "statfs: used and available make the size"
head -c 8M /dev/zero >eight
is "$(df -k --output=used . | tail -n 1)" $((used + 8192)) "statfs: 8 MiB more are used"
rm eight
is "$(df -k --output=used . | tail -n 1 | tr -d ' ')" "$used" "statfs: and are free again"
is "$(stat -f -c '%T %l' . | sed 's/.* //')" 255 "statfs: longest name"
check "fsync: a file" sync file
check "fsync: a directory" sync dir
check "fsync: the filesystem" sync -f .

# ---- mmap, execution --------------------------------------------------------

op ok "mmap: shared" mmap-shared map
op ok "mmap: private" mmap-private map
cp /bin/echo run-me && is "$(./run-me works)" works "execute a binary"
printf '#!/bin/sh\necho script\n' >script && chmod 755 script
is "$(./script)" script "execute a script"

# ---- permissions ------------------------------------------------------------

as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$fsop" "$@" 2>&1; }
# The helper may lie where others cannot go.
cp "$fsop" "$work/fsop" && chmod 755 "$work/fsop" && fsop=$work/fsop
mkdir closed && chmod 700 closed && : >closed/f
: >secret && chmod 600 secret
: >shown && chmod 644 shown
mkdir drop && chmod 1777 drop && : >drop/f
is "$(as_nobody open shown r)" ok "another user: may read what all may"
is "$(as_nobody open shown w)" EACCES "another user: may not write it"
is "$(as_nobody open secret r)" EACCES "another user: may not read a file of mode 600"
is "$(as_nobody open closed/f r)" EACCES "another user: may not pass a directory of mode 700"
is "$(as_nobody open new rw,creat)" EACCES "another user: may not create here"
is "$(as_nobody open drop/new rw,creat,excl)" ok "another user: may create in a 1777 directory"
is "$(stat -c '%u %g' drop/new)" "65534 65534" "another user: owns it"
is "$(as_nobody unlink drop/f)" EPERM "another user: sticky bit"
is "$(as_nobody chmod shown 666)" EPERM "another user: may not chmod"
is "$(as_nobody chown drop/new 0 0)" EPERM "another user: may not give a file away"
is "$(as_nobody truncate shown 0)" EACCES "another user: may not truncate"
is "$(setpriv --reuid 65534 --regid 65534 --clear-groups pmemleasectl . stats 2>&1 >/dev/null)" \
	"pmemleasectl: .: only root and the user who mounted it may ask" \
	"another user: may not ask about leases"

# ---- a tree, and a remount --------------------------------------------------

if [ -d /usr/include/linux ]; then
	cp -r /usr/include/linux tree
	check "cp -r of /usr/include/linux: no difference" diff -r /usr/include/linux tree
else
	skip "cp -r of /usr/include/linux" "no such directory"
fi
audit
before=$(digest .)
used_before=$(stat_of used_blocks) inodes_before=$(stat_of inodes)
cd / || exit
remount
cd "$mnt" || exit
is "$(digest .)" "$before" "remount: everything is as it was"
is "$(stat_of used_blocks)" "$used_before" "remount: used blocks"
is "$(stat_of inodes)" "$inodes_before" "remount: inodes"
audit "remount: counters agree"
[ ! -d tree ] || check "remount: the tree, too" diff -r /usr/include/linux tree

cd / || exit
remount ro
is "$("$fsop" open "$mnt/new" rw,creat)" EROFS "read-only: create"
is "$("$fsop" truncate "$mnt/shown" 1)" EROFS "read-only: truncate"
is "$(digest "$mnt")" "$before" "read-only: everything can be read"
remount

find "$mnt" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
is "$(ls -A "$mnt" | wc -l)" 0 "all is removed"
is "$(stat_of used_blocks)" 0 "no block is used"
is "$(stat_of inodes)" 1 "one inode is left"
in_range "$(stat_of free_blocks)" $((free_at_start * 98 / 100)) "$free_at_start" \
	"free blocks are back, but for what metadata keeps"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
