#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# seeing.t -- what pmemleasectl shows of leases: lists, filters, history, numbers, watch, log;
#             and the end of a session
#
# usage: seeing.t [BUILD_DIR]; see tests/README.md
. "$(dirname "$0")/lib.sh"
start "$@"
fsop=$(helper fsop) || bail_out "fsop does not compile"
holder=$(helper holder) || bail_out "holder does not compile"
ground=$work/ground
# Not a wrapper that takes its time.
python=$(python3 -c 'import sys; print(sys.executable)') || skip_all "needs python3"
base=soft=127.0.0.1:0,client_uid=0,client_gid=0

# json EXPRESSION COMMAND...: the command's JSON, which must be valid, as d of the expression.
json() {
	local expression=${1//[$'\n\t']/ }
	shift
	"$@" | "$python" -IS -c 'import json, sys
d = json.loads(sys.stdin.buffer.read().decode("utf-8"))
print(eval(sys.argv[1]))' "$expression" 2>&1 | tail -n 1
}
ctl() { pmemleasectl "$mnt" "$@"; }

# holding WHAT COUNT: a client with so many leases in one session, until let_go.
holders=0
holding() {
	holders=$((holders + 1))
	mkfifo "$ground/end.$holders"
	"$holder" "$url/$1" "$2" <"$ground/end.$holders" >"$ground/holder.$holders" &
	holder_pid=$!
	exec {holder_end}>"$ground/end.$holders"
	wait_for 10 test -s "$ground/holder.$holders"
	is "$(cat "$ground/holder.$holders")" "holding $2" "a client holds $2 leases on $1"
}
let_go() {
	exec {holder_end}>&-
	wait "$holder_pid"
}

# tool STATUS PART NAME COMMAND...: ends with that status, with PART in its message.
tool() {
	local want=$1 part=$2 name=$3 rc
	shift 3
	"$@" >"$ground/out" 2>"$ground/err"
	rc=$?
	if [ $rc = "$want" ] && [[ $(<"$ground/err") == *"$part"* ]]; then
		ok "$name: $(head -n 1 "$ground/err")"
	else
		not_ok "$name" "status $rc, want $want" "stderr: $(<"$ground/err")" "want:   ...$part..."
	fi
}

make_device 128M
mount_fs $base,policy=block,term=120s,max_session_leases=400

# ---- nothing yet ------------------------------------------------------------

for list in leases pins sessions waiters history; do
	is "$(json 'd' ctl $list --json)" "[]" "$list: nothing, as JSON"
	is "$(ctl $list | wc -l)" 1 "$list: nothing, as text"
done
is "$("$fsop" asking "$mnt")" ok "ioctls: versions and reserved fields are checked"

# ---- leases and pins, more than one piece holds ------------------------------

head -c 1228800 /dev/zero >"$mnt/many"
head -c 256K /dev/zero >"$mnt/a"
many=$(stat -c %i "$mnt/many") a=$(stat -c %i "$mnt/a")
holding many 300
hold get /a --hold 60
is "$(json 'len(d), len({x["lease"] for x in d})' ctl leases --json)" "(301, 301)" \
	"leases: all of several pieces, each once"
is "$(ctl leases | grep -c 'held by 127.0.0.1:[0-9]* (session [0-9]*), uid 0, 1 segment')" 301 \
	"leases: as text"
is "$(json 'len(d), sum(x["blocks"] for x in d)' ctl pins --json)" "(301, 364)" "pins: all"
is "$(stat_of pins)" 364 "as many as the counters have"
is "$(ctl pins | wc -l)" 302 "pins: as text"

# Each list by each filter.
is "$(json 'len(d), {x["inode"] for x in d}, {x["path"][-4:] for x in d}' \
	ctl leases --json --file "$mnt/many")" "(300, {$many}, {'many'})" "leases --file"
contains "$(ctl leases --file "$mnt/a")" "$mnt/a is inode $a" "leases --file: which inode that is"
is "$(ctl leases --file "$mnt/a" | grep -c 'held by')" 1 "leases --file: as text"
is "$(json 'len(d)' ctl pins --json --file "$mnt/a")" 1 "pins --file"
is "$(json 'len(d)' ctl leases --json --client 127.0.0.1:)" 301 "leases --client"
is "$(json 'len(d)' ctl leases --json --client 127.0.0.2)" 0 "leases --client: of another"
peer=$(json 'd[-1]["holder"]' ctl leases --json)
is "$(json '[x["inode"] for x in d]' ctl pins --json --client "$peer")" "[$a]" "pins --client"
lease=$(json 'd[41]["lease"]' ctl leases --json)
is "$(json '[x["lease"] for x in d]' ctl leases --json --lease "$lease")" "[$lease]" "leases --lease"
is "$(json '[x["first_byte"] for x in d]' ctl pins --json --lease "$lease")" "[$((41 * 4096))]" \
	"pins --lease"
is "$(json 'len(d)' ctl leases --json --lease "$lease" --file "$mnt/a")" 0 "filters must all fit"

block=$(json 'd[-1]["block"]' ctl pins --json --file "$mnt/a")
is "$(json '[(x["inode"], x["first_byte"], x["end_byte"], x["block"], x["blocks"]) for x in d]' \
	ctl pins --json --block $((block + 5)))" "[($a, 20480, 24576, $((block + 5)), 1)]" \
	"pins --block: who pins it, and what lies there"
is "$(json '[x["inode"] for x in d]' ctl leases --json --block $((block + 5)))" "[$a]" \
	"leases --block"
is "$(json 'd' ctl leases --json --block 999999999)" "[]" "leases --block: nobody has it"
is "$(json 'd[0]["mode"], d[0]["state"], d[0]["why"], d[0]["recalled_for"], d[0]["shared"],
	d[0]["unbreakable"], d[0]["orphan"], d[0]["uid"], d[0]["waiter"]' ctl leases --json)" \
	"('read', 'granted', None, None, False, False, False, 0, None)" "leases: what each tells"

# Who is there; and one of them goes.
is "$(json 'len(d), sorted((x["leases"], x["segments"], x["pinned_bytes"]) for x in d)' \
	ctl sessions --json)" "(2, [(1, 1, 262144), (300, 300, 1228800)])" "sessions: what they hold"
is "$(json '{(x["client"][:10], x["identity"], x["uid"], x["local"], x["ending"], x["age_ms"] < 60000,
	x["silent_ms"] <= x["age_ms"]) for x in d}' ctl sessions --json)" \
	"{('127.0.0.1:', None, 0, False, False, True, True)}" "sessions: what each tells"
is "$(ctl sessions | grep -cE '^[0-9]+ +0 +(1|300) +(1|300) .* 127.0.0.1:[0-9]+$')" 2 \
	"sessions: as text"
is "$(json '[x["leases"] for x in d]' ctl sessions --json --file "$mnt/a")" "[1]" "sessions --file"
is "$(json '[x["leases"] for x in d]' ctl sessions --json --lease "$lease")" "[300]" \
	"sessions --lease"
is "$(json '[x["leases"] for x in d]' ctl sessions --json --block $((block + 5)))" "[1]" \
	"sessions --block"
is "$(json '[x["leases"] for x in d]' ctl sessions --json --client "$peer")" "[1]" \
	"sessions --client"
session=$(json 'd[0]["session"]' ctl sessions --json --file "$mnt/many")
is "$(ctl evict "$session")" "session $session is over, and 300 leases" "evict: says what it took"
is "$(stat_of pins) $(json '[x["leases"] for x in d]' ctl sessions --json)" "64 [1]" \
	"evict: nothing of it is left when it returns, and all of the other"
is "$(json '{x["why"] for x in d}' ctl history --json --file "$mnt/many")" "{'evicted'}" \
	"evict: is in the history"
echo >&"$holder_end"
wait_for 5 grep -q KEY "$ground/holder.$holders"
is "$(tail -n 1 "$ground/holder.$holders")" EKEYREVOKED "evict: the client's reads say so"
tool 2 "session $session: no such session" "evict: it is gone" pmemleasectl "$mnt" evict "$session"
tool 2 "session 4711: no such session" "evict: nobody" pmemleasectl "$mnt" evict 4711
tool 1 "the number of a session" "evict: no number" pmemleasectl "$mnt" evict
tool 1 "no number" "evict: no number, but a name" pmemleasectl "$mnt" evict someone
tool 1 "too many" "evict: two" pmemleasectl "$mnt" evict 1 2
tool 1 "evict takes no --client" "evict: by address" pmemleasectl "$mnt" evict 1 --client=127.
rm "$mnt/a"
is "$(json '[x["inode"] for x in d if x["orphan"]]' ctl leases --json)" "[$a]" "leases: an orphan"
contains "$(ctl leases)" "the file has no name" "leases: an orphan, as text"
kill -KILL $client
wait $client 2>/dev/null
let_go
is "$(tail -n 1 "$ground/holder.$holders")" "returned 300 EKEYREVOKED" "evict: and that it is no more"
stat_becomes leases 0 5 "all have ended"
is "$(json '{x["why"] for x in d}' ctl history --json)" "{'evicted'}" \
	"history: what was given up is not in it"
holding many 3
is "$(json '[x["session"] > '"$session"' for x in d if x["leases"] == 3]' ctl sessions --json)" \
	"[True]" "evict: who comes again has a new session"
is "$(json 'd["leases"]' ctl evict "$(json 'd[-1]["session"]' ctl sessions --json)" --json)" 3 \
	"evict: as JSON"
let_go

# ---- waiting operations, more than one piece holds ---------------------------

mkdir "$mnt/crowd"
for ((i = 0; i < 220; i++)); do echo x >"$mnt/crowd/$i"; done
holding crowd 220
"$fsop" truncate-each "$mnt/crowd" 220 0 >"$ground/crowd" &
crowd=$!
stat_becomes waiters 220 10 "220 operations wait"
is "$(json 'len(d), len({x["inode"] for x in d}), len({x["process"]["pid"] for x in d})' \
	ctl waiters --json)" "(220, 220, 220)" "waiters: all of several pieces, each once"
is "$(json '{(x["operation"], x["policy"], x["first_byte"], x["end_byte"], x["uid"],
	x["process"]["name"], x["holder"][:10]) for x in d}' ctl waiters --json)" \
	"{('truncate', 'block', 0, None, 0, 'fsop', '127.0.0.1:')}" "waiters: what each tells"
is "$(json '[x["age_ms"] for x in d] == sorted([x["age_ms"] for x in d], reverse=True)' \
	ctl waiters --json)" True "waiters: who waits longest comes first"
is "$(ctl waiters | grep -c '^truncate  block ')" 220 "waiters: as text"
is "$(ctl waiters | grep -cE '^ +of fsop \(pid [0-9]+\), uid 0$')" 220 "waiters: whose they are"
is "$(ctl waiters | grep -cE '^ +for lease [0-9]+, held by 127.0.0.1:[0-9]+$')" 220 \
	"waiters: for which lease, and whose that is"
seven=$(stat -c %i "$mnt/crowd/7")
is "$(json '[x["inode"] for x in d]' ctl waiters --json --file "$mnt/crowd/7")" "[$seven]" \
	"waiters --file"
lease=$(json 'd[0]["lease"]' ctl leases --json --file "$mnt/crowd/7")
is "$(json '[x["inode"] for x in d]' ctl waiters --json --lease "$lease")" "[$seven]" \
	"waiters --lease"
block=$(json 'd[0]["block"]' ctl pins --json --lease "$lease")
is "$(json '[x["lease"] for x in d]' ctl waiters --json --block "$block")" "[$lease]" \
	"waiters --block"
is "$(json 'len(d)' ctl waiters --json --client 127.0.0.1:)" 220 "waiters --client"
is "$(json 'd[0]["state"], d[0]["recalled_for"], d[0]["waiter"]["operation"]' \
	ctl leases --json --lease "$lease")" "('recalling', 'truncate', 'truncate')" \
	"leases: what it is recalled for, and who waits"
contains "$(ctl leases --lease "$lease")" "recalling for truncate" "leases: the same as text"
wait_for 5 eval '[ "$(json "d[0][\"acknowledged\"]" ctl leases --json --lease $lease)" = True ]'
contains "$(ctl leases --lease "$lease")" "s ago, acknowledged" "leases: the holder has answered"
kill -KILL $crowd
wait $crowd 2>/dev/null
stat_becomes waiters 0 5 "they were killed"
let_go
stat_becomes leases 0 5 "and the leases are gone"

# ---- history, watch and log ---------------------------------------------------

# In the foreground: the log goes to standard error.
umount_fs
mount.pmemleasefs -f "$device" "$mnt" -o $base,ack=300ms,drain=800ms,term=2s,max_session_leases=2 \
	>"$ground/foreground" 2>"$ground/log" &
daemon=$!
wait_for 10 grep -q 'listening on' "$ground/foreground" || bail_out "no mount: $(cat "$ground/log")"
wait_for 10 is_mounted
url=$(sed -n 's,^soft: listening on ,soft://,p' "$ground/foreground")

pmemleasectl "$mnt" watch --interval=100ms >"$ground/watch" &
watch=$!
pmemleasectl "$mnt" watch --interval=100ms --json >"$ground/watch.json" &
watch_json=$!
pmemleasectl "$mnt" watch --interval=100ms --lease 999999 >"$ground/watch.none" \
	2>"$ground/watch.err" &
watch_none=$!
wait_for 5 test -s "$ground/watch" -a -s "$ground/watch.json" -a -s "$ground/watch.none"

# last EXPRESSION: of the newest entry, as x.
last() { json "[($1) for x in d[-1:]]" ctl history --json; }

head -c 64K /dev/zero >"$mnt/held"
held=$(stat -c %i "$mnt/held")
hold get /held --hold 60 --ignore-recall
for file in watch watch.json; do
	check "$file: tells of the lease" wait_for 10 grep -q '+lease 1 \|"lease":1,' "$ground/$file"
done
name=$'q"\\\a\xff'
cp "$fsop" "$ground/$name"
"$ground/$name" truncate "$mnt/held" 4096 >/dev/null &
truncate=$!
wait_for 5 stat_is waiters 1
is "$(json 'ascii(d[0]["process"]["name"])' ctl waiters --json)" "'q\"\\\\\\x07\\ufffd'" \
	"JSON: any name of a process"
wait $truncate
end_of $client 5
is "$(last 'x["why"], x["recalled_for"], x["inode"], x["mode"], x["waiter"]["pid"]')" \
	"[('silent', 'truncate', $held, 'read', $truncate)]" "history: silent"
in_range "$(json 'd[-1]["took_ms"]' ctl history --json)" 300 2000 "history: how long it took, ms"
contains "$(ctl history)" "recalled for truncate" "history: as text"
contains "$(ctl history)" "awaited by q\"\\?" "history: nothing breaks its lines"
contains "$(cat "$ground/log")" "revoked: inode $held bytes 0-65536, held by 127.0.0.1:" \
	"log: a line for the revoke"
contains "$(grep -a 'revoked: inode' "$ground/log")" "(pid $truncate) waited" "log: who waited"
contains "$(grep -a 'revoked: inode' "$ground/log")" "for truncate, cause silent," "log: why"

head -c 64K /dev/zero >"$mnt/held"
holding held 2
"$fsop" fallocate "$mnt/held" punch 0 4096 >/dev/null
is "$(last 'x["why"], x["recalled_for"], x["waiter"]["name"]')" "[('conflict', 'punch', 'fsop')]" \
	"history: acknowledged and not returned"
let_go

hold get /held --hold 60
stop $client
stat_becomes expired 1 8 "a client falls silent"
is "$(last 'x["why"], x["recalled_for"], x["waiter"]')" "[('expired', None, None)]" \
	"history: expired"
kill -KILL $client
wait $client 2>/dev/null
is "$(json '[x["number"] for x in d]' ctl history --json)" "[1, 2, 3]" "history: in order"
is "$(json 'len(d)' ctl history --json --file "$mnt/held")" 3 "history --file"
is "$(json 'len(d)' ctl history --json --client 10.)" 0 "history --client"
lease=$(json 'd[1]["lease"]' ctl history --json)
is "$(json '[x["why"] for x in d]' ctl history --json --lease "$lease")" "['conflict']" \
	"history --lease"

# ---- numbers ------------------------------------------------------------------

mkfifo "$ground/limit"
"$holder" "$url/held" 3 <"$ground/limit" >"$ground/limited" &
limited=$!
exec 7>"$ground/limit"
wait_for 5 test -s "$ground/limited"
exec 7>&-
wait $limited
stat_becomes leases 0 5 "all have ended"
is "$(json '[(k, v) for k, v in d["refused"].items() if v], len(d["refused"])' ctl stats --json)" \
	"([('max_session_leases', 1)], 15)" "stats: refusals by limit"
contains "$(ctl stats)" "  max_session_leases   1" "stats: as text"
is "$(ctl stats | grep -c '^  max_')" 1 "stats: as text, what has refused nothing is left out"
is "$(json '[k for k, v in d["times"].items() if sum(b["count"] for b in v["buckets"]) != v["count"] or
	v["max_ms"] > v["sum_ms"] or len(v["buckets"]) != 20]' ctl stats --json)" "[]" \
	"stats: buckets add up to counts"
is "$(json 'd["times"]["grant"]["count"] - d["granted"], d["times"]["held"]["count"] - d["granted"],
	d["times"]["unpin"]["count"] - d["granted"], d["times"]["revoke"]["count"] - d["revoked"],
	d["times"]["fence"]["count"] - d["fences"], d["revoked"], d["times"]["wait"]["count"],
	d["times"]["ack"]["count"]' ctl stats --json)" "(0, 0, 0, 0, 0, 2, 2, 1)" \
	"stats: counts of times agree with the counters"
is "$(ctl stats | sed -n '/^TIMES/,$p' | awk '$1 == "wait" { print $2, NF }')" "2 6" \
	"stats: times as text"

# ---- what the watchers saw -----------------------------------------------------

# Two looks more: the second has begun after all of the above.
looks() { [ "$(wc -l <"$ground/$1")" -ge "$2" ]; }
for file in watch watch.json; do
	check "$file: goes on" wait_for 10 looks $file $(($(wc -l <"$ground/$file") + 2))
done
kill -TERM $watch $watch_json
for pid in $watch $watch_json; do
	end_of $pid 5
	is "$client_status" 0 "watch: a signal ends it"
done
all=$(cat "$ground/watch")
contains "$all" "+lease 1 read inode $held 0-65536 127.0.0.1:" "watch: a grant"
contains "$all" "-lease 1 silent for truncate of q\"\\?" "watch: a revoke, why, what for and for whom"
contains "$all" "+wait punch inode $held fsop (pid " "watch: an operation begins to wait"
contains "$all" "-wait punch inode $held fsop (pid " "watch: and ends"
contains "$all" "; -lease $lease conflict for punch of fsop (pid " "watch: a conflict"
contains "$all" " expired after " "watch: an expired lease"
contains "$all" " given-up" "watch: one that was given up"
is "$(grep -o -- '-lease [0-9]*' "$ground/watch" | sort | uniq -d)" "" "watch: each end once"
is "$(grep -o '[+]lease [0-9]*' "$ground/watch" | sort | uniq -d)" "" "watch: each grant once"
cat >"$ground/lines.py" <<'EOF'
import json, sys
began, ended, whys, granted = set(), set(), set(), 0
for line in sys.stdin.buffer:
    d = json.loads(line.decode("utf-8"))
    granted += d["counted"]["granted"]
    began |= {x["lease"] for x in d["new_leases"]}
    ended |= {x["lease"] for x in d["ended_leases"]}
    whys |= {x["why"] for x in d["ended_leases"]}
    assert not d["new_waiters"] or d["waiters"] > 0
print(sorted(whys), began - ended, granted)
EOF
is "$("$python" "$ground/lines.py" <"$ground/watch.json" 2>&1 | tail -n 1)" \
	"['conflict', 'expired', 'given-up', 'silent'] set() $(stat_of granted)" \
	"watch --json: an object a line, and all that has happened"
is "$(grep -c ';' "$ground/watch.none")" 0 "watch --lease: nothing of others"

is "$(ctl watch --count=2 --interval=100ms | wc -l)" 2 "watch --count"
is "$(ctl watch --count=1 | sed 's/^..:..:..//')" " leases 0, waiters 0" "watch: a line"
hold get /held --hold 60
if command -v script >/dev/null; then
	script -qec "$(printf '%q ' pmemleasectl "$mnt" watch --count=2 --interval=100ms)" /dev/null \
		</dev/null >"$ground/screen" 2>&1
	contains "$(cat "$ground/screen")" $'\e[H' "watch: a terminal is drawn anew"
	contains "$(cat "$ground/screen")" "1 sessions, 1 leases" "watch: with what there is"
	contains "$(cat "$ground/screen")" "a second: granted 0.0" "watch: with rates"
	contains "$(tail -c 8 "$ground/screen")" $'\e[?7h' "watch: and left as it was"
else
	skip "watch on a terminal" "no script(1)"
fi
kill -KILL $client
wait $client 2>/dev/null

# ---- what is refused -----------------------------------------------------------

tool 2 "not a pmemleasefs" "another filesystem" pmemleasectl /tmp waiters
tool 2 "not a pmemleasefs" "another filesystem: watch" pmemleasectl /tmp watch --count=1
tool 2 "No such file" "no directory: watch" pmemleasectl "$ground/none" watch
for command in leases pins sessions waiters history stats "evict 1" "watch --count=1"; do
	# shellcheck disable=SC2086 # a command and its option
	tool 2 "only root" "$command: another user" setpriv --reuid 65534 --regid 65534 \
		--clear-groups "$build/tools/pmemleasectl" "$mnt" $command
done
tool 2 "No such file" "--file: of nothing" pmemleasectl "$mnt" leases --file "$mnt/none"
tool 2 "not on the filesystem" "--file: elsewhere" pmemleasectl "$mnt" leases --file /tmp
tool 1 "no number" "--lease: no number" pmemleasectl "$mnt" leases --lease=x
tool 1 "no number" "--lease: 0" pmemleasectl "$mnt" leases --lease=0
tool 1 "no number" "--block: no number" pmemleasectl "$mnt" pins --block=-1
tool 1 "no time" "--interval: too short" pmemleasectl "$mnt" watch --interval=2
tool 1 "no number" "--count: 0" pmemleasectl "$mnt" watch --count=0
tool 1 "stats takes no --lease" "a filter of numbers" pmemleasectl "$mnt" stats --lease=1
tool 1 "history takes no --block" "a block in the past" pmemleasectl "$mnt" history --block=1
tool 1 "leases takes no --count" "a list again and again" pmemleasectl "$mnt" leases --count=2
tool 1 "extents takes no --file" "a filter of another command" \
	pmemleasectl extents "$mnt/held" --file="$mnt/held"
tool 1 "unrecognized option" "no such option" pmemleasectl "$mnt" leases --holder=x
is "$(pmemleasectl --help | awk 'length > 80' | wc -l)" 0 "--help fits in 80 columns"

# A watcher keeps nobody from unmounting, and ends with the mount.
umount_fs
is "$umount_status" 0 "umount under a watcher"
end_of $watch_none 5
is "$client_status" 2 "which ends: $(cat "$ground/watch.err")"
finish
