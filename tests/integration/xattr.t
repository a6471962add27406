#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# xattr.t -- extended attributes and ACLs on a real mount, as several users, and what
# other programs make of them
#
# usage: xattr.t [BUILD_DIR]
# Its users are numbers: 1001 and 1002 with groups 2001 and 2002.
. "$(dirname "$0")/lib.sh"
start "$@"
for program in setfattr setfacl setcap rsync; do
	command -v $program >/dev/null || skip_all "needs $program: tools/dev/packages build"
done

# Users run it, too.
cp "$(helper fsop)" "$work/fsop" && chmod 755 "$work/fsop" || bail_out "cannot build fsop"
fsop=$work/fsop

make_device 256M
mount_fs "soft=127.0.0.1:0,client_uid=1001,client_gid=2001"
cd "$mnt" || exit
chmod 1777 .

# as UID GID GROUPS COMMAND...: GROUPS "-" for none.
as() {
	local uid=$1 gid=$2 groups=$3
	shift 3
	if [ "$groups" = - ]; then groups=--clear-groups; else groups=--groups=$groups; fi
	setpriv --reuid "$uid" --regid "$gid" "$groups" "$@" 2>&1
}
ann() { as 1001 2001 - "$@"; }
bob() { as 1002 2002 - "$@"; }

# fails NAME PART COMMAND...: it fails, and says so.
fails() {
	local name=$1 part=$2 out
	shift 2
	if out=$("$@" 2>&1); then
		not_ok "$name" "succeeds: $*"
	else
		contains "$out" "$part" "$name"
	fi
}

# value FILE NAME
value() { getfattr -h --only-values --absolute-names -n "$2" "$1" 2>&1; }
# names FILE: one line, sorted.
names() { getfattr -h --absolute-names -m - "$1" 2>/dev/null | grep -v '^#' | sed '/^$/d' | sort | paste -sd' '; }
# acl FILE: one line, numeric.
acl() { getfacl -n -c -E --absolute-names "$1" 2>&1 | sed '/^$/d' | paste -sd,; }
mode() { stat -c %a "$1"; }

# ---- names and values ---------------------------------------------------------

echo text >f
check "set" setfattr -n user.a -v one f
is "$(value f user.a)" one "get"
check "set: another value" setfattr -n user.a -v 'a longer one' f
is "$(value f user.a)" "a longer one" "get: the other value"
check "set: an empty value" setfattr -n user.empty f
is "$(value f user.empty)" "" "get: the empty value"
is "$(names f)" "user.a user.empty" "list"
check "remove" setfattr -x user.empty f
is "$(names f)" "user.a" "list: one less"
fails "get: no such name" "No such attribute" getfattr -n user.empty f
fails "remove: no such name" "No such attribute" setfattr -x user.empty f
long=user.$(printf 'n%.0s' $(seq 250))
check "set: a name of 255 bytes" setfattr -n "$long" -v x f
is "$(value f "$long")" x "get: a name of 255 bytes"
fails "set: a name of 256 bytes" "Numerical result out of range" setfattr -n "${long}n" -v x f
setfattr -x "$long" f
fails "set: no namespace" "Operation not supported" setfattr -n a -v x f
fails "set: an unknown namespace" "Operation not supported" setfattr -n other.a -v x f
fails "set: nothing behind the namespace" "Invalid argument" setfattr -n user. -v x f

head -c 65536 /dev/urandom >"$work/ground/value"
check "set: 65536 bytes" setfattr -n user.big -v "0s$(base64 -w0 "$work/ground/value")" f
is "$(value f user.big | sha256sum)" "$(sha256sum <"$work/ground/value")" "get: 65536 bytes"
fails "set: 65537 bytes" "Argument list too long" \
	setfattr -n user.more -v "0s$( (cat "$work/ground/value"; echo) | base64 -w0)" f
mkdir listed
for i in $(seq 256); do setfattr -n "user.$(printf %0250d "$i")" -v "$i" listed; done
is "$(getfattr --absolute-names listed | grep -c ^user)" 256 "list: 65536 bytes"
setfattr -n user.one.more -v x listed
fails "list: more is too much" "Argument list too long" getfattr listed
is "$(value listed user.one.more)" x "get: what cannot be listed"
rm -r listed

ln -s f link
mkfifo fifo
fails "a symlink has no user attributes" "Operation not permitted" setfattr -h -n user.a -v x link
fails "a pipe has none" "Operation not permitted" setfattr -n user.a -v x fifo
check "a symlink has trusted ones" setfattr -h -n trusted.a -v x link
is "$(names link)" trusted.a "list: of a symlink"
check "security attributes" setfattr -n security.a -v x f
touch -d 2001-01-01 f
in_range "$(stat -c %Z f)" "$(($(date +%s) - 60))" "$(($(date +%s) + 1))" "ctime is now"
ctime=$(stat -c %z f)
sleep 0.02
setfattr -n user.a -v x f
[ "$(stat -c %z f)" != "$ctime" ] && ok "set: changes ctime" || not_ok "set: changes ctime"
is "$(stat -c %Y f)" "$(date -d 2001-01-01 +%s)" "set: keeps mtime"
ctime=$(stat -c %z f)
sleep 0.02
setfattr -x user.a f
[ "$(stat -c %z f)" != "$ctime" ] && ok "remove: changes ctime" || not_ok "remove: changes ctime"

# ---- who may ------------------------------------------------------------------

: >hers && chown 1001:2001 hers && chmod 644 hers
is "$(ann setfattr -n user.a -v 1 hers)" "" "the owner may set"
fails "another may not" "Permission denied" bob setfattr -n user.b -v 1 hers
is "$(bob getfattr --only-values -n user.a hers)" 1 "who may read the file may get"
chmod 600 hers
fails "who may not may not" "Permission denied" bob getfattr -n user.a hers
fails "trusted: not for users" "Operation not permitted" ann setfattr -n trusted.a -v 1 hers
setfattr -n trusted.a -v 1 hers
is "$(names hers)" "trusted.a user.a" "trusted: root sees it"
is "$(ann getfattr -m - hers | grep -v '^#' | paste -sd' ')" "user.a " "trusted: users do not"
fails "trusted: nor get it" "No such attribute" ann getfattr -n trusted.a hers
fails "security: not for users" "Operation not permitted" ann setfattr -n security.a -v 1 hers
mkdir sticky && chmod 1777 sticky
fails "a sticky directory: its owner alone" "Operation not permitted" \
	ann setfattr -n user.a -v 1 sticky
chmod 777 sticky
is "$(ann setfattr -n user.a -v 1 sticky)" "" "without the bit who may write"

# ---- ACLs ---------------------------------------------------------------------

: >a && chmod 640 a && echo text >a
fails "without an ACL: denied" "Permission denied" bob cat a
check "setfacl: a user" setfacl -m u:1002:r a
is "$(acl a)" "user::rw-,user:1002:r--,group::r--,mask::r--,other::---" "getfacl"
is "$(bob cat a)" text "the user may read"
fails "and not write" "Permission denied" bob sh -c 'echo >>a'
fails "others may not read" "Permission denied" ann cat a
check "setfacl: a group" setfacl -m g:2003:rw a
is "$(as 1001 2001 2003 sh -c 'echo more >>a && cat a' | paste -sd' ')" "text more" \
	"a supplementary group may write"
chmod 604 a
is "$(acl a)" "user::rw-,user:1002:r--,group::r--,group:2003:rw-,mask::---,other::r--" \
	"chmod: the group's bits are the mask"
fails "the mask denies" "Permission denied" as 1001 2001 2003 sh -c 'echo >>a'
chmod 660 a
is "$(as 1001 2001 2003 sh -c 'echo >>a && echo done')" "done" "the mask allows again"
setfacl -m m::r a
is "$(mode a)" 640 "setfacl: the mask is the group's bits"
check "setfacl: what a mode says" setfacl -b -m u::rwx,g::rx,o::- a
is "$(names a) $(mode a)" " 750" "is stored as a mode"
fails "an ACL that is none" "Invalid argument" setfattr -n system.posix_acl_access -v 0x02000000ff00ff00ffffffff a
fails "another's file" "Operation not permitted" bob setfacl -m u:1002:rw a
fails "a default ACL of a file" "Permission denied" \
	setfattr -n system.posix_acl_default -v 0x0200000001000700ffffffff04000700ffffffff20000700ffffffff a
cp /bin/true tool && chown 1001:2003 tool && chmod 2755 tool
is "$(as 1001 2001 2003 setfacl -m u:1002:r tool)$(mode tool)" 2755 "setgid stays for a member"
is "$(ann setfacl -m u:1002:rx tool)$(mode tool)" 755 "setgid goes for who is none"

mkdir d
check "setfacl: a default ACL" setfacl -d -m u:1002:rwx,g::rx,o::- d
(umask 077 && : >d/file && mkdir d/sub && mkfifo d/fifo && ln -s x d/link)
is "$(acl d/file)" "user::rw-,user:1002:rwx,group::r-x,mask::rw-,other::---" \
	"inherited by a file, whatever the umask"
is "$(acl d/sub)" "user::rwx,user:1002:rwx,group::r-x,mask::rwx,other::---,default:user::rwx,default:user:1002:rwx,default:group::r-x,default:mask::rwx,default:other::---" \
	"inherited by a directory, twice"
is "$(mode d/fifo) $(mode d/link)" "660 777" "by a pipe; not by a symlink"
is "$(bob sh -c 'echo hello >>d/file && cat d/file')" hello "the inherited ACL counts"
(umask 027 && : >masked && mkdir masked.d)
is "$(mode masked) $(mode masked.d)" "640 750" "without one the umask counts"
is "$(umask 0; mkdir open.d; : >open; echo "$(mode open.d) $(mode open)")" "777 666" "umask 0"
check "setfacl -k" setfacl -k d
is "$(names d)" "" "the default ACL is gone"
setfacl -d -m u:1002:rwx d

# ---- a written file loses its capabilities and setuid bits ----------------------

# loses NAME COMMAND...: a fresh program of ann's, with a capability, then the command.
loses() {
	rm -f prog
	cp /bin/true prog && chown 1001:2001 prog && chmod 6755 prog && setcap cap_net_raw+ep prog
	[ "$(mode prog) $(getcap prog)" = "6755 prog cap_net_raw=ep" ] ||
		not_ok "setcap" "$(mode prog) $(getcap prog)"
	local name=$1
	shift
	is "$("$@" 2>&1; getcap prog; mode prog)" 755 "$name"
}
loses "write" ann sh -c 'echo x >>prog'
loses "write, a second time after a look" ann sh -c 'stat prog >/dev/null; cat prog >/dev/null; echo x >>prog'
loses "truncate" ann truncate -s 10 prog
loses "open with O_TRUNC" ann sh -c ': >prog'
loses "direct write" ann dd if=/dev/zero of=prog bs=4096 count=1 conv=notrunc oflag=direct status=none
loses "fallocate" ann fallocate -l 1M prog
loses "punch" ann fallocate -p -o 0 -l 4096 prog
loses "copy_file_range" ann sh -c "$fsop clone f 0 prog 0 1 >/dev/null"
loses "chown" chown 1001:2001 prog
rm -f prog && cp /bin/true prog && chmod 2745 prog && chown 1001:2001 prog && chmod 2745 prog
ann sh -c 'echo >>prog'
is "$(mode prog)" 2745 "setgid without x for the group is another thing, and stays"
cp /bin/true prog2 && chmod 6755 prog2 && setcap cap_net_raw+ep prog2 && echo >>prog2
is "$(getcap prog2) $(mode prog2)" " 6755" "root's write takes the capability, not the bits"

# ---- the same inode under other names -------------------------------------------

: >named && setfattr -n user.a -v kept named && setfacl -m u:1002:rw named
ln named named2 && mv named d/moved && rm named2
is "$(value d/moved user.a) $(acl d/moved)" \
	"kept user::rw-,user:1002:rw-,group::r--,mask::rw-,other::r--" "link, rename, unlink keep"
cp d/moved clone # by copy_file_range(2)
is "$(names clone)" "" "a clone of the data has none"

# ---- what other programs make of it -----------------------------------------------

# tree_of DIR: all that is to come over.
tree_of() {
	(cd "$1" && {
		find . -printf '%p %y %m %U %G %T@ %l\n' | sort
		getfacl -R -n . 2>/dev/null
		find . -print0 | sort -z | xargs -0 getfattr -h -d -m '^(user|trusted|security\.cap)' -e hex
	} | grep -v '^# owner\|^# group')
}
mkdir -p tree/sub && chmod 750 tree/sub && echo x >tree/sub/f && ln -s f tree/sub/l
setfattr -n user.one -v 1 tree/sub/f
setfattr -n trusted.two -v 2 tree/sub/f
setfattr -n user.dir -v 3 tree
setfacl -m u:1002:rw,g:2003:r tree/sub/f
setfacl -m u:1002:rx tree/sub
setfacl -d -m u:1001:rwx,g:2003:- tree/sub
setcap cap_net_raw+ep tree/sub/f
find tree -exec touch -h -d 2001-02-03 {} +
want=$(tree_of tree)
cp -a tree tree.cp
is "$(tree_of tree.cp)" "$want" "cp -a"
rsync -aAX tree/ tree.rsync 2>"$work/ground/rsync" || note "$(cat "$work/ground/rsync")"
is "$(tree_of tree.rsync)" "$want" "rsync -aAX"
mkdir tree.tar
tar -C tree --xattrs --xattrs-include='*' --acls -cf - . |
	tar -C tree.tar --xattrs --xattrs-include='*' --acls -xpf -
is "$(tree_of tree.tar)" "$want" "tar --xattrs --acls"

# ---- remote clients ---------------------------------------------------------------

echo remote >r && chmod 600 r
is "$(pmemlease get "$url/r" - 2>/dev/null)" "" "a remote client: denied by the mode"
setfacl -m u:1001:r r
is "$(pmemlease get "$url/r" - 2>&1)" remote "a remote client: allowed by an ACL"
setfacl -m m::- r
is "$(pmemlease get "$url/r" - 2>/dev/null)" "" "a remote client: denied by the mask"
mkdir rd && chmod 777 rd && setfacl -d -m u:1002:rw,o::- rd
echo up >"$work/ground/up"
check "a remote client creates" pmemlease put "$work/ground/up" "$url/rd/new"
contains "$(acl rd/new)" "user:1002:rw-" "and the ACL is inherited"
is "$(acl rd/new | sed 's/.*other/other/')" "other::---" "for all others, too"

echo x >rprog && chown 1002 rprog && chmod 6777 rprog && setcap cap_net_raw+ep rprog
check "a remote client writes a program" pmemlease put --in-place "$work/ground/up" "$url/rprog"
is "$(getcap rprog) $(cat rprog)" " up" "which loses its capability"
wait_for 5 eval '[ "$(mode rprog)" = 777 ]'
is "$(mode rprog)" 777 "and its setuid and setgid bits"

# ---- remount ----------------------------------------------------------------------

audit
before=$(tree_of .)
inodes_before=$(stat_of inodes)
cd / || exit
remount
cd "$mnt" || exit
is "$(tree_of .)" "$before" "remount: everything is as it was"
is "$(stat_of inodes)" "$inodes_before" "remount: inodes"
cd / || exit
remount ro
fails "read-only: set" "Read-only file system" setfattr -n user.a -v 1 "$mnt/f"
is "$(value "$mnt/d/moved" user.a)" kept "read-only: get"
remount
find "$mnt" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
is "$(stat_of used_blocks)" 0 "all is removed: no block is used"
is "$(stat_of inodes)" 1 "one inode is left"
audit
umount_fs
is "$umount_status" 0 "umount"
finish
