#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# exports.t -- identities, exports and several addresses of a real mount, by pmemlease
#
# usage: exports.t [BUILD_DIR]; see tests/README.md
#   PML_TEST_TRANSPORT   soft, or rdma inside tests/vm/run
. "$(dirname "$0")/lib.sh"
start "$@"
choose_fabric 128M
case $fabric in
soft)
	host=127.0.0.1 network=127.0.0.0/8 host6=::1 options=''
	at=soft=$host:0 at6="soft=[$host6]:0" anywhere=soft=0.0.0.0:0
	[ -e /proc/net/if_inet6 ] && grep -q ' lo$' /proc/net/if_inet6 || at6=''
	;;
rdma)
	host=$PML_RDMA_ADDR network=${host%.*}.0/24 host6=fd77::1
	# No address of a device is loopback: who proves nothing is let in by this alone.
	options=,allow_unauthenticated
	at=rdma=$host:$port at6="rdma=[$host6]:$((port + 1))" anywhere=rdma=0.0.0.0:$((port + 2))
	ip address replace $host6/64 dev rdma0 nodad || at6=''
	;;
esac

secrets=$work/ground/secrets exports=$work/ground/exports
new_secret() { head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n'; }
alice=$(new_secret) root=$(new_secret)
(umask 077 && cat >"$secrets") <<END
# who are you
alice $alice uid=1000 gid=1000,2000
root  $root uid=0 gid=0
END
cat >"$exports" <<END
/data      $network(rw) $host6(ro,id=alice)
/data/top  *(rw,no_root_squash,id=root)
/pub       *(auth=none)
END

# ---- what is refused at mount -------------------------------------------------

# refused OPTIONS STATUS WORDS NAME
refused() {
	out=$(mount.pmemleasefs "$device" "$mnt" -o "$at,$1" 2>&1)
	is "$?" "$2" "$4: status"
	contains "$out" "$3" "$4: in words"
}
if [ "$fabric" = soft ]; then # the same for both
	chmod 640 "$secrets"
	refused "secrets=$secrets" 1 "chmod 600 $secrets" "secrets that the group may read"
	chmod 600 "$secrets"
	refused "secrets=$work/none" 32 "$work/none: No such file" "no file of secrets"
	refused "exports=$exports" 32 "$exports:1: nobody can prove" "exports without secrets"
	echo "/data host(rw)" >"$work/ground/wrong"
	refused "secrets=$secrets,exports=$work/ground/wrong" 32 "wrong:1: \"host\"" "a wrong export"
	echo "bob $alice" >"$work/ground/wrong"
	chmod 600 "$work/ground/wrong"
	refused "secrets=$work/ground/wrong" 32 "wrong:1: uid=N is missing" "a wrong identity"
	case $out in
	*"${alice:0:12}"*) not_ok "a secret is never shown" "$out" ;;
	*) ok "a secret is never shown" ;;
	esac
	refused "secrets=secrets" 1 "absolute path" "a relative path"
fi

# ---- two addresses ------------------------------------------------------------

addresses=$at${at6:+,$at6}$options
out=$(mount.pmemleasefs "$device" "$mnt" -o "$addresses,secrets=$secrets,exports=$exports" 2>&1) ||
	bail_out "cannot mount: $out"
daemon=$(daemon_of "$device")
v4=$(sed -n "s,^$fabric: listening on \($host:.*\),\1,p" <<<"$out")
v6=$(sed -n "s,^$fabric: listening on \(\[.*\),\1,p" <<<"$out")
mkdir -m 1777 "$mnt/data" "$mnt/data/top" "$mnt/pub" "$mnt/closed"
head -c 100K /dev/urandom >"$work/ground/up"
cp "$work/ground/up" "$mnt/pub/file"
cp "$work/ground/up" "$mnt/closed/file"
export PMEMLEASE_SECRETS=$secrets

check "alice puts a file" pmemlease put -q "$work/ground/up" "$fabric://alice@$v4/data/one"
is "$(stat -c %u:%g "$mnt/data/one")" 1000:1000 "it is hers"
is "$(sum_of "$mnt/data/one")" "$(sum_of "$work/ground/up")" "and what she has put"
check "root puts a file" pmemlease put -q "$work/ground/up" "$fabric://root@$v4/data/two"
is "$(stat -c %u:%g "$mnt/data/two")" 65534:65534 "root is squashed"
check "root puts another file" pmemlease put -q "$work/ground/up" "$fabric://root@$v4/data/top/three"
is "$(stat -c %u:%g "$mnt/data/top/three")" 0:0 "where the rule says so it is not"
check "nobody lists what is public" pmemlease ls "$fabric://$v4/pub"
check "nobody reads it" pmemlease get -q "$fabric://$v4/pub/file" /dev/null

# no_entry URL STATUS WORDS NAME: pmemlease stat
no_entry() {
	out=$(pmemlease stat "$1" 2>&1)
	is "$?" "$2" "$4: status"
	contains "$out" "$3" "$4: in words"
}
let_in="is not one that is let in"
no_entry "$fabric://$v4/data" 2 "IDENTITY@" "no identity"
no_entry "$fabric://alice@$v4/data/top/three" 2 "$let_in" "an export of others"
no_entry "$fabric://alice@$v4/closed/file" 2 "$let_in" "what is no export"
no_entry "$fabric://bob@$v4/data" 2 "no line for \"bob\"" "no secret"
(umask 077 && echo "alice $root" >"$work/ground/false" && echo "bob $root" >>"$work/ground/false")
PMEMLEASE_SECRETS=$work/ground/false
no_entry "$fabric://alice@$v4/data" 2 "$let_in" "a wrong secret"
wrong=$out
no_entry "$fabric://bob@$v4/data" 2 "$let_in" "an unknown identity"
is "${out/bob/alice}" "$wrong" "which is told the same"
PMEMLEASE_SECRETS=$secrets
if [ -n "$v6" ]; then
	out=$(pmemlease put -q "$work/ground/up" "$fabric://alice@$v6/data/four" 2>&1)
	is "$?" 3 "another address, another rule: status"
	contains "$out" "Read-only" "another address, another rule: in words"
	check "and reading goes" pmemlease get -q "$fabric://alice@$v6/data/one" /dev/null
else
	skip "another address" "no $host6"
fi

# ---- read anew ----------------------------------------------------------------

url=$fabric://alice@$v4
hold get /data/one --hold 60
echo "/closed *(auth=nobody)" >"$exports"
out=$(mount.pmemleasefs "$device" "$mnt" -o remount 2>&1)
is "$?" 1 "remount with wrong exports: status"
contains "$out" "$exports:1: auth= wants" "remount with wrong exports: in words"
check "and those from before hold" pmemlease stat "$fabric://alice@$v4/data/one"
echo "/closed *(rw)" >"$exports"
check "remount reads the exports anew" mount.pmemleasefs "$device" "$mnt" -o remount
check "which hold for who comes now" pmemlease stat "$fabric://alice@$v4/closed/file"
no_entry "$fabric://alice@$v4/data" 2 "$let_in" "what is no export any more"
stat_becomes leases 1 2 "who was in still is"
kill $client && wait $client 2>/dev/null
stat_becomes sessions 0 5 "until it goes"
umount_fs
is "$umount_status" 0 "umount"

# ---- addresses that others can reach ------------------------------------------

mount_fs "$anywhere,secrets=$secrets"
ok "with secrets any address will do"
port=${url##*:}
check "there too" pmemlease ls "$fabric://alice@$host:$port/"
no_entry "$fabric://$host:$port/" 2 "IDENTITY@" "no identity, from this host"
umount_fs
finish
