#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# leases.t -- remote clients over the software fabric: data, permissions, policies, ends
#
# usage: leases.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
holder=$(helper holder) || bail_out "holder does not compile"
ground=$work/ground
base=soft=127.0.0.1:0,client_uid=0,client_gid=0,poison
clocks=ack=600ms,drain=2s,term=4s

make_device 256M
mount_fs $base,$clocks

# ---- ls, stat, get, put -----------------------------------------------------

file a 3000001
mkdir "$mnt/dir"
(cd "$mnt/dir" && seq -f 'file-%g' 500 | xargs touch)
echo text >"$mnt/dir/x y"
is "$(pmemlease ls "$url/" | sort)" "$(ls "$mnt")" "ls: the root"
is "$(pmemlease ls "$url/dir" | sort)" "$(ls "$mnt/dir")" "ls: 501 names"
contains "$(pmemlease ls -l "$url/a")" " 3000001 " "ls -l: size"
is "$(pmemlease stat --json "$url/a" |
	sed -n 's/.*"mode": "\([0-7]*\)".*"size": \([0-9]*\).*"ino": \([0-9]*\).*/\2 \1 \3/p')" \
	"$(stat -c '%s 0%a %i' "$mnt/a")" "stat: as the local stat says"
check "get" pmemlease get -q "$url/a" "$ground/a"
check "get: contents" cmp "$ground/a" "$mnt/a"
check "get: in small leases" pmemlease get -q --lease-bytes=70000 "$url/a" "$ground/a"
check "get: in small leases, contents" cmp "$ground/a" "$mnt/a"
is "$(pmemlease get -q "$url/dir/x y" -)" text "get: to standard output, a name with a space"
truncate -s 5M "$mnt/sparse" && printf x | dd of="$mnt/sparse" bs=1 seek=2000000 conv=notrunc status=none
pmemlease get -q "$url/sparse" "$ground/sparse"
check "get: holes read as zeros" cmp "$ground/sparse" "$mnt/sparse"
: >"$mnt/empty"
check "get: an empty file" pmemlease get -q "$url/empty" "$ground/empty"
is "$(stat -c %s "$ground/empty")" 0 "get: of no bytes"
for i in 1 2 3 4 5; do pmemlease get -q "$url/a" "$ground/a.$i" & getters[i]=$!; done
wait "${getters[@]}"
is "$(sha256sum "$ground"/a.? "$mnt/a" | cut -d' ' -f1 | sort -u | wc -l)" 1 "get: five at once"
stat_becomes sessions 0 5 "all sessions have ended"

head -c 2500003 /dev/urandom >"$ground/up"
check "put: a new file" pmemlease put -q "$ground/up" "$url/new"
check "put: seen at once by a local reader" cmp "$ground/up" "$mnt/new"
is "$(stat -c %s "$mnt/new")" 2500003 "put: size"
check "put: in small leases" pmemlease put -q --lease-bytes=100001 "$ground/up" "$url/dir/new"
check "put: in small leases, contents" cmp "$ground/up" "$mnt/dir/new"
cp "$mnt/new" "$mnt/clone"
head -c 2500003 /dev/urandom >"$ground/up"
check "put: over a file that shares blocks" pmemlease put -q --in-place "$ground/up" "$url/new"
check "put: the file has the new bytes" cmp "$ground/up" "$mnt/new"
is "$(cmp -s "$ground/up" "$mnt/clone"; echo $?)" 1 "put: its clone is the old one"
timed pmemlease put -q --in-place "$ground/a.1" "$url/a"
is "$rc" 0 "put: same size again"
head -c 100 "$ground/up" >"$ground/short"
cp "$mnt/a" "$mnt/long"
timed pmemlease put -q --in-place "$ground/short" "$url/long"
is "$rc $(stat -c %s "$mnt/long")" "0 100" "put: a shorter file in place of a longer one"
check "put: a shorter file, contents" cmp "$ground/short" "$mnt/long"
check "bench: read" pmemlease bench --size=4k --depth=8 --count=2000 "$url/a"
check "bench: write" pmemlease bench --write --size=64k --count=200 --file-size=1M "$url/bench"

# ---- what local readers see -------------------------------------------------

printf old >"$mnt/seen" && truncate -s 4096 "$mnt/seen" && cat "$mnt/seen" >/dev/null
(printf new; head -c 4093 /dev/zero) >"$ground/seen"
mkfifo "$ground/go"
"$fsop" reread "$mnt/seen" <"$ground/go" >"$ground/reread" &
reader=$!
exec 7>"$ground/go"
wait_for 5 grep -q read "$ground/reread"
check "a remote rewrite of what is open and cached here" pmemlease put -q --in-place "$ground/seen" "$url/seen"
is "$(head -c 3 "$mnt/seen")" new "is seen by the next local reader"
echo go >&7
exec 7>&-
wait $reader
is "$(tail -n 1 "$ground/reread")" new "and through the descriptor that was open"
printf 'longer' >"$mnt/grown" && stat "$mnt/grown" >/dev/null
pmemlease put -q "$ground/up" "$url/grown"
wait_for 3 test "$(stat -c %s "$mnt/grown")" = 2500003
is "$(stat -c %s "$mnt/grown")" 2500003 "a file that a client has made longer: size"
check "and contents" cmp "$ground/up" "$mnt/grown"
hold get /a --hold 20
printf local | dd of="$mnt/a" bs=1 conv=notrunc status=none
is "$(head -c 5 "$mnt/a") $(stat_of recalls)" "local 0" "a local write in place needs no recall"
is "$(pmemlease get -q "$url/a" - 2>/dev/null | head -c 5)" local "and is what a remote reader reads"
kill -KILL $client
no_leases 5 "a client that was killed"

# ---- permissions ------------------------------------------------------------

remount soft=127.0.0.1:0,client_uid=1234,client_gid=1234,$clocks
chmod 600 "$mnt/a"
mkdir "$mnt/closed" "$mnt/open" && chmod 700 "$mnt/closed" && echo x >"$mnt/closed/x"
chown 1234:1234 "$mnt/open"
timed pmemlease get -q "$url/a" "$ground/denied"
is "$rc" 3 "a file that client_uid may not read: $out"
contains "$out" "Permission denied" "and the line says so"
timed pmemlease get -q "$url/closed/x" "$ground/denied"
is "$rc" 3 "a directory that client_uid may not pass: $out"
timed pmemlease put -q "$ground/up" "$url/mine"
is "$rc" 3 "a directory that client_uid may not write: $out"
chmod 644 "$mnt/new"
timed pmemlease put -q "$ground/up" "$url/new"
is "$rc" 3 "a file that client_uid may not write: $out"
check "but may read" pmemlease get -q "$url/new" "$ground/got"
check "its own directory" pmemlease put -q "$ground/up" "$url/open/mine"
is "$(stat -c '%u %g' "$mnt/open/mine")" "1234 1234" "what it makes belongs to it"
no_leases 5 "refused requests"
remount ro,$base
timed pmemlease put -q "$ground/up" "$url/new"
is "$rc" 3 "read-only: put: $out"
check "read-only: get" pmemlease get -q "$url/new" "$ground/got"

# ---- policies, operation by operation ---------------------------------------

# Each with what is in its way: a reader, a writer, a reader of a file with a hole.
prepare() {
	rm -f "$mnt/held" "$mnt/twin" "$mnt/made"
	file held 256K
	cp "$mnt/held" "$ground/up"
	case $1 in
	unshare) "$fsop" fallocate "$mnt/held" punch 4096 4096 >/dev/null && hold get /held --hold 30 "${@:2}" ;;
	clone-src) hold put /held --hold 30 "${@:2}" ;;
	clone-dst) file twin 256K && hold get /held --hold 30 "${@:2}" ;;
	*) hold get /held --hold 30 "${@:2}" ;;
	esac
}
operate() {
	case $1 in
	truncate) "$fsop" truncate "$mnt/held" 4096 ;;
	punch) "$fsop" fallocate "$mnt/held" punch 4096 65536 ;;
	unshare) printf x | dd of="$mnt/held" bs=1 seek=5000 conv=notrunc status=none ;;
	clone-src) "$fsop" clone "$mnt/held" 0 "$mnt/made" 0 65536 ;;
	clone-dst) "$fsop" clone "$mnt/twin" 0 "$mnt/held" 0 65536 ;;
	esac
}

for op in truncate punch unshare clone-src clone-dst; do
	other=$([ $op = truncate ] && echo punch || echo truncate)
	remount "$base,$clocks,policy=revoke,policy.$op=ebusy"
	prepare $op
	sum=$(sum_of "$mnt/held")
	timed operate $op
	[ $op = unshare ] && out=$(sed -n 's/.*: Device or resource busy$/EBUSY/p' <<<"$out")
	is "$rc $out" "1 EBUSY" "policy.$op=ebusy: fails with EBUSY"
	in_range $ms 0 1500 "policy.$op=ebusy: at once, ms"
	is "$(sum_of "$mnt/held")" "$sum" "policy.$op=ebusy: nothing is changed"
	is "$(stat_of leases)" 1 "policy.$op=ebusy: the lease lives"
	timed operate "$other"
	is "$rc $out" "0 ok" "policy.$op=ebusy: $other goes by the other policy"
	end_of $client 5
	is "$client_status" 0 "policy.$op=ebusy: whose holder has returned the lease"
	no_leases 3 "policy.$op=ebusy"
done

for op in truncate punch unshare clone-src clone-dst; do
	remount "$base,$clocks,policy=ebusy,policy.$op=revoke"
	prepare $op
	timed operate $op
	is "$rc" 0 "policy.$op=revoke: is done"
	in_range $ms 0 1900 "policy.$op=revoke: before the drain clock, ms"
	end_of $client 5
	is "$client_status" 0 "policy.$op=revoke: a good holder returned its lease"
	contains "$(cat "$client_log")" "lease recalled and returned" "policy.$op=revoke: and knows it"
	prepare $op --ignore-recall
	timed operate $op
	is "$rc" 0 "policy.$op=revoke, a holder that is silent: is done"
	in_range $ms 500 2500 "policy.$op=revoke, a holder that is silent: after the ack clock, ms"
	end_of $client 5
	is "$client_status" 5 "policy.$op=revoke: the silent holder was fenced"
	contains "$(cat "$client_log")" "lease revoked" "policy.$op=revoke: and told"
	no_leases 3 "policy.$op=revoke"
done
audit

# ---- clients that die, stop, fall silent ------------------------------------

rm -f "$mnt/held"
# Unmounting frees what has no name any more; unlink leaves it to the kernel's next forget.
remount $base,$clocks
used=$(stat_of used_blocks)
file held 4M
hold get /held --hold 60
rm "$mnt/held"
is "$(stat_of used_blocks)" $((used + 1024)) "unlink: a lease keeps the file's blocks"
kill -KILL $client
no_leases 5 "kill -9 of a client"
if wait_for 5 stat_is used_blocks "$used"; then
	ok "kill -9: the blocks are free again"
else
	not_ok "kill -9: the blocks are free again" "$(stat_of used_blocks), want $used"
fi

file busy 16M
for _ in 1 2 3 4 5; do
	pmemlease bench --size=64k --count=1000000 "$url/busy" >/dev/null 2>&1 &
	client=$!
	wait_for 5 stat_at_least leases 1 || not_ok "a client in the middle of traffic"
	kill -KILL $client
	wait $client 2>/dev/null
	wait_for 5 stat_is leases 0 || break
done
no_leases 5 "kill -9 in the middle of traffic, five times"
file held
hold get /held --hold 60
stop $client
timed truncate -s 4096 "$mnt/held"
is "$rc" 0 "kill -STOP of a client: truncate is done"
in_range $ms 500 2500 "kill -STOP of a client: after the ack clock, ms"
kill -CONT $client
end_of $client 5
is "$client_status" 5 "kill -STOP of a client: it goes on, and learns that it was revoked"
contains "$(cat "$client_log")" "lease revoked" "in words"
file held
hold get /held --hold 60
stop $client
died=$(stat_of sessions_died) expired=$(stat_of expired)
no_leases 8 "kill -STOP of a client that nobody waits for, its term is over"
in_range $(($(stat_of sessions_died) + $(stat_of expired) - died - expired)) 1 2 "which is counted"
kill -CONT $client
end_of $client 10
case $client_status in
2 | 5) ok "it goes on, and learns: $(tail -n 1 "$client_log")" ;;
*) not_ok "it goes on, and learns" "status $client_status: $(cat "$client_log")" ;;
esac
audit

# ---- policy block: parked, not stuck ----------------------------------------

# Of one file the kernel passes on one change at a time: so as many files.
waiting=50 holding=51
remount $base,policy=block,term=120s,max_waiters=$waiting,max_client_sessions=64
clients=()
for i in $(seq $holding); do
	file "$i.b" 64K
	pmemlease get --hold 300 "$url/$i.b" /dev/null >"$ground/hold.$i" 2>&1 &
	clients[i]=$!
	disown $! # no word when it is killed
done
holding_now() { [ "$(cat "$ground"/hold.* | grep -c 'holding lease')" = $holding ]; }
if wait_for 20 holding_now; then
	ok "$holding clients hold a lease each"
else
	not_ok "$holding clients hold a lease each" "$(stat_of leases)"
fi
stop "${clients[@]}" # none will return anything

# truncate_all: on $waiting of the files; sets waiters.
truncate_all() {
	local i
	waiters=()
	for i in $(seq $waiting); do
		"$fsop" truncate "$mnt/$i.b" 4096 >"$ground/truncate.$i" 2>&1 &
		waiters[i]=$!
		disown $!
	done
}
# Of each that does not wait: what it said, whether it is there, and what its holder does.
others_than_waiters() {
	local i all
	all=$(pmemleasectl "$mnt" waiters)
	for i in $(seq $waiting); do
		[[ $all != *"(pid ${waiters[i]})"* ]] || continue
		echo "$i.b: '$(cat "$ground/truncate.$i")', $(stat -c %s "$mnt/$i.b") bytes," \
			"threads '$(threads_of "${waiters[i]}")'; holder: threads" \
			"'$(threads_of "${clients[i]}")', '$(tail -n 1 "$ground/hold.$i")'"
	done
}
truncate_all
if wait_for 10 stat_is waiters $waiting; then
	ok "$waiting truncates wait for them"
else
	not_ok "$waiting truncates wait for them" "waiters: $(stat_of waiters), leases: $(stat_of leases)" \
		"$(others_than_waiters)"
fi
timed eval 'cat "$mnt/a" >/dev/null'
in_range $ms 0 1000 "meanwhile: cat of another file, ms"
timed ls -l "$mnt"
in_range $ms 0 1000 "meanwhile: ls, ms"
timed eval 'echo x >"$mnt/quick"; rm "$mnt/quick"'
is "$rc" 0 "meanwhile: create, write, close, unlink"
in_range $ms 0 1000 "meanwhile: and quickly, ms"
timed eval 'head -c 4096 "$mnt/7.b" >/dev/null'
in_range $ms 0 1000 "meanwhile: a read of a file with a waiter, ms"
timed pmemleasectl "$mnt" leases
contains "$out" "awaited by fsop (pid ${waiters[1]}, truncate)" "who waits for what is shown"
is "$(stat -c %s "$mnt/7.b")" 65536 "nothing has been truncated"
timed timeout 10 "$fsop" truncate "$mnt/$holding.b" 4096 # if it waits, the holders' terms would end
is "$out" EAGAIN "max_waiters: one more is refused"
in_range $ms 0 1000 "max_waiters: at once, ms"
kill -KILL "${waiters[@]}"
if wait_for 5 stat_is waiters 0; then
	ok "all $waiting can be killed"
else
	not_ok "all $waiting can be killed" "waiters left: $(stat_of waiters)"
fi
all_gone() { for pid; do is_gone "$pid" || return 1; done; }
check "none of the processes is left" wait_for 5 all_gone "${waiters[@]}"
is "$(find "$mnt" -name '*.b' -size -65536c | wc -l)" 0 "what was killed has changed nothing"

timed "$fsop" interrupted-truncate "$mnt/1.b" 4096 300
is "$out" EINTR "a signal with a handler: EINTR"
in_range $ms 250 1500 "promptly, ms"
"$fsop" truncate "$mnt/2.b" 4096 &
waiter=$!
wait_for 5 stat_is waiters 1
kill -TERM $waiter
end_of $waiter 3
is "$client_status" 143 "SIGTERM ends a waiting process"
wait_for 5 stat_is waiters 0

truncate_all
wait_for 10 stat_is waiters $waiting
kill -CONT "${clients[@]}" # good clients: they return what was recalled
check "when the holders return, the operations end" wait_for 10 all_gone "${waiters[@]}"
is "$(cat "$ground"/truncate.* | sort | uniq -c | awk '{ print $1, $2 }')" "$waiting ok" "all are done"
is "$(find "$mnt" -name '*.b' -size 4096c | wc -l)" $waiting "and all files are truncated"
kill -KILL "${clients[@]}" 2>/dev/null
no_leases 10 "all clients were killed"

remount $base,policy=block,block_deadline=1s,term=120s
file held
hold get /held --hold 60
stop $client
timed "$fsop" truncate "$mnt/held" 4096
is "$out" EBUSY "block_deadline: EBUSY"
in_range $ms 900 2000 "block_deadline: in time, ms"
is "$(stat_of leases)" 1 "block_deadline: the holder keeps its lease"
kill -KILL $client
no_leases 5 "block_deadline"
audit

# ---- limits -----------------------------------------------------------------

remount $base,max_sessions=2,max_session_leases=3,max_session_pinned=1M,term=60s
file many 8M
mkfifo "$ground/end.1" "$ground/end.2"
"$holder" "$url/many" 5 <"$ground/end.1" >"$ground/holder.1" &
first=$!
exec 7>"$ground/end.1"
wait_for 5 test -s "$ground/holder.1"
contains "$(cat "$ground/holder.1")" "EDQUOT 3" "max_session_leases: EDQUOT at the fourth"
"$holder" "$url/many" 3 524288 <"$ground/end.2" >"$ground/holder.2" &
second=$!
exec 8>"$ground/end.2"
wait_for 5 test -s "$ground/holder.2"
contains "$(cat "$ground/holder.2")" "EDQUOT 2" "max_session_pinned: EDQUOT at the third MiB half"
timed pmemlease ls "$url/"
is "$rc" 2 "max_sessions: the third is refused: $out"
contains "$out" "as many clients as it allows" "max_sessions: in words"
in_range "$(stat_of refused_limit)" 2 4 "refusals are counted"
is "$(stat_of leases) $(stat_of sessions)" "5 2" "leases of both"
exec 7>&- 8>&-
wait $first $second
is "$(tail -n 1 "$ground/holder.1")" "returned 3 live" "the granted ones were good to the end"
check "with the sessions gone others are served" pmemlease ls "$url/"
no_leases 3 "limits"

# ---- what somebody waits for is done under leases; names come and go ----------

remount $base,$clocks,orphan_grace=700ms,term=60s
file held 1M
cp "$mnt/held" "$ground/up"
hold put /held --hold 60
timed dd if=/dev/zero of="$mnt/held" bs=4096 count=8 seek=3 conv=notrunc,fsync status=none
is "$rc" 0 "fsync of a file under a write lease"
in_range $ms 0 2000 "fsync does not wait for the holder, ms"
timed sync -f "$mnt/held"
is "$rc" 0 "syncfs with a write lease"
is "$(stat_of leases) $(stat_of recalls)" "1 0" "neither has recalled the lease"
kill -KILL $client && wait $client 2>/dev/null
no_leases 5 "a client with a write lease was killed"

for way in unlink rename; do
	file held 1M
	hold get /held --hold 60
	if [ $way = unlink ]; then rm "$mnt/held"; else file other 4K && mv "$mnt/other" "$mnt/held"; fi
	is "$(stat_of leases)" 1 "orphan_grace: $way leaves the lease alone"
	end_of $client 10
	is "$client_status" 0 "orphan_grace: then it is recalled, and a good holder returns it"
	contains "$(cat "$client_log")" "lease recalled and returned" "orphan_grace: and knows it"
done
rm -f "$mnt/twin"
file held 1M && ln "$mnt/held" "$mnt/twin"
hold get /held --hold 60
rm "$mnt/held"
sleep 1.5
is "$(stat_of leases)" 1 "a file that has another name is no orphan"
rm "$mnt/twin"
end_of $client 10
is "$client_status" 0 "until that one goes, too"
no_leases 5 "orphans"

remount $base,$clocks,policy=ebusy,ebusy_recall
file held
hold get /held --hold 30
timed "$fsop" truncate "$mnt/held" 4096
is "$out" EBUSY "ebusy_recall: fails at once"
end_of $client 5
is "$client_status" 0 "ebusy_recall: the holder was asked, and has returned it"
no_leases 3 "ebusy_recall"
timed "$fsop" truncate "$mnt/held" 4096
is "$out" ok "ebusy_recall: so the next try succeeds"

remount $base,$clocks,max_unbreakable=1M
file held
hold get /held --hold 30 --unbreakable
timed "$fsop" truncate "$mnt/held" 4096
is "$out" EBUSY "unbreakable: policy revoke ends in EBUSY"
in_range $ms 0 1500 "unbreakable: at once, ms"
is "$(stat_of leases) $(stat_of recalls)" "1 0" "unbreakable: nobody is recalled"
timed pmemlease get -q --wait=1 --unbreakable "$url/many" /dev/null
is "$rc" 3 "max_unbreakable: more is refused: $out"
kill -KILL $client && wait $client 2>/dev/null
no_leases 5 "unbreakable: its holder was killed"

file held && cp "$mnt/held" "$ground/up"
hold put /held --hold 30 --shared
first=$client
hold put /held --hold 30 --shared
is "$(stat_of leases)" 2 "shared: two writers at once"
timed "$fsop" truncate "$mnt/held" 4096
is "$out" ok "shared: both give way"
end_of $first 5 && is "$client_status" 0 "shared: the first has returned its lease"
file held && cp "$mnt/held" "$ground/up"
hold put /held --hold 30 --downgrade
check "downgrade: another reader fits beside it" pmemlease get -q --wait=0 "$url/held" /dev/null
is "$(stat_of recalls)" 2 "downgrade: without a recall"
kill -KILL $client && wait $client 2>/dev/null
no_leases 5 "kinds of leases"
audit

# ---- the end of the mount with live leases ----------------------------------

for how in umount "umount -l" SIGTERM; do
	remount $base
	file held 4M
	cp "$mnt/held" "$ground/up"
	hold get /held --hold 60
	reader=$client reader_log=$client_log
	file held2 4M && cp "$mnt/held2" "$ground/up"
	hold put /held2 --hold 60
	if [ "$how" != SIGTERM ]; then
		timed $how "$mnt"
		is "$rc" 0 "$how with live leases"
		in_range $ms 0 5000 "$how with live leases, ms"
	else
		umount "$mnt" && wait_for 20 is_gone "$daemon"
		end_of $reader 5 && end_of $client 5
		mount.pmemleasefs -f "$device" "$mnt" -o $base >"$ground/foreground" 2>"$ground/err" &
		daemon=$!
		wait_for 10 grep -q 'listening on' "$ground/foreground" || bail_out "no mount: $(cat "$ground/err")"
		wait_for 10 is_mounted
		url=$(sed -n 's,^soft: listening on ,soft://,p' "$ground/foreground")
		hold get /held --hold 60
		reader=$client reader_log=$client_log
		hold put /held2 --hold 60
		kill -TERM $daemon
	fi
	for pid in $reader $client; do
		end_of $pid 10
		log=$([ $pid = $reader ] && echo "$reader_log" || echo "$client_log")
		case $client_status in
		2 | 5) ok "$how: the client is told: $(tail -n 1 "$log")" ;;
		*) not_ok "$how: the client is told" "status $client_status: $(cat "$log")" ;;
		esac
	done
	if [ "$how" != SIGTERM ]; then
		check "$how: the daemon ends" wait_for 20 is_gone "$daemon"
		mount_fs $base
	else
		end_of $daemon 20
		is "$client_status" 0 "SIGTERM: the daemon ends with status"
		is "$(is_mounted; echo $?)" 1 "SIGTERM: nothing is mounted"
		mount_fs $base
	fi
	audit "$how: the next mount is consistent"
done

rm -rf "${mnt:?}"/*
stat_becomes used_blocks 0 5 "nothing is left over"
umount_fs
is "$umount_status" 0 "umount"
finish
