#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# model.t -- Spin looks at every state of the lease protocol's model, and finds what each
#            mutation breaks
#
# usage: tests/model/model.t          (docs/lease-protocol.md, "Model")
#
# A run is a choice of -D for lease.pml.  Each is exhaustive: no bit state hashing, and a run
# that meets a limit of depth, memory or time fails.
set -u
cd -- "$(dirname -- "${BASH_SOURCE[0]}")" || exit 1
here=$PWD
top=${here%/*/*}
n=0 failures=0

ok() {
	n=$((n + 1))
	echo "ok $n - $1"
}

# not_ok NAME TEXT: the text becomes comments.
not_ok() {
	n=$((n + 1)) failures=$((failures + 1))
	echo "not ok $n - $1"
	printf '%s\n' "$2" | sed 's/^/# /'
}

for tool in spin gcc; do
	if ! command -v $tool >/dev/null; then
		echo "1..0 # SKIP $tool is missing (tools/dev/packages build)"
		exit 0
	fi
done
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# ---- names ------------------------------------------------------------------

# The transitions of the model: "name file function() in lease/file.c".
transitions() {
	awk '
		match($0, /Code: [a-z_]+\(\) in lease\/[a-z]+\.c/) {
			code = substr($0, RSTART + 6, RLENGTH - 6)
		}
		/^inline / {
			sub(/^inline /, ""); sub(/\(.*/, "")
			if (code != "") print $0, FILENAME, code
			code = ""
		}' ./*.pml | sed 's,\./,,' | sort
}

# The functions that name transitions, in the same form.
functions() {
	local file
	for file in "$top"/lease/*.c; do
		awk -v file="lease/${file##*/}" '
			match($0, /Model: [a-z_, ]+ \(tests\/model\/[a-z]+\.pml\)/) {
				text = substr($0, RSTART + 7, RLENGTH - 7)
				where = text
				sub(/.*tests\/model\//, "", where); sub(/\)/, "", where)
				sub(/ \(.*/, "", text)
				count = split(text, names, /, /)
			}
			count && /^[a-z].*\(/ {
				sub(/\(.*/, ""); sub(/.*[ *]/, "")
				for (i = 1; i <= count; i++)
					print names[i], where, $0 "() in " file
				count = 0
			}' "$file"
	done | sort
}

transitions >"$work/transitions"
functions >"$work/functions"
if [ "$(wc -l <"$work/transitions")" -lt 30 ]; then
	not_ok "the model names its transitions' functions" "$(cat "$work/transitions")"
elif difference=$(diff "$work/transitions" "$work/functions"); then
	ok "model and code name each other ($(wc -l <"$work/transitions") transitions)"
else
	not_ok "model and code name each other" "$difference"
fi

# ---- the model in one file --------------------------------------------------

# Spin loses track of the files that lines are in when there are more than a few.
flat=$work/flat.pml
while IFS= read -r line; do
	case $line in
	'#include '*) cat "$(cut -d'"' -f2 <<<"$line")" ;;
	*) printf '%s\n' "$line" ;;
	esac
done <lease.pml >"$flat"

# ---- runs -------------------------------------------------------------------

# verify DIR KIND DEFINITIONS...: leaves DIR/out, and for the lines that are reached DIR/all.
# KIND: safety; large, the same and worth optimizing; cover, the same and the lines that are
# reached count; liveness, under weak fairness.
verify() {
	local dir=$1 kind=$2
	local how="-DSAFETY -O0" options="" merging=""
	shift 2
	case $kind in
	large) how="-DSAFETY -O1" ;;
	liveness) how="-DNFAIR=3 -O0" options="-a -f" ;;
	esac
	mkdir -p "$dir" && cd "$dir" || return
	cp "$flat" .
	if [ "$kind" = liveness ]; then
		set -- "$@" -DLIVENESS
	elif [ "$kind" = cover ]; then
		# Spin reports no lines inside of a d_step.  An atomic is the same, as nothing in it
		# blocks; but what is hidden would not be restored.
		merging=-o3
		sed -i 's/\<d_step\>/atomic/; s/^hidden //' flat.pml
	fi
	# shellcheck disable=SC2086 # lists of words
	{
		spin -a $merging "$@" flat.pml &&
			sed -i 's/if (which\[i\] == 0$/if (getenv("PML_ALL") || which[i] == 0/' pan.c &&
			gcc $how -DMEMLIM=1000 -DVECTORSZ=1024 -w -o pan pan.c &&
			timeout 300 ./pan $options -m1000000 -w20
	} >out 2>&1
	[ "$kind" != cover ] || PML_ALL=1 ./pan -m2 >all 2>&1
	rm -f pan pan.? flat.pml.trail
}

# What the run was: "holds", "fails" or why it says nothing.
outcome() {
	if grep -qE 'max search depth|out of memory|Search not completed' "$1/out" &&
		! grep -q 'errors: [1-9]' "$1/out"; then
		echo "incomplete"
	elif grep -q 'errors: 0$' "$1/out"; then
		echo holds
	elif grep -q 'errors: [1-9]' "$1/out"; then
		echo fails
	else
		echo "broken"
	fi
}

# run holds|fails KIND NAME [SIGN] :: DEFINITIONS...: what must come of it.  SIGN is in the
# message of a run that fails: the invariant that is broken.
runs=()
run() {
	local line="$1|$2|$3"
	shift 3
	[ "$1" = :: ] && set -- - "$@"
	line+="|$1"
	shift 2
	runs+=("$line|$*")
}

run holds large "one client and one program, everything but fences that fail" \
	:: -DNC=1 -DACCESS -DBREAKS -DEXPIRE -DCANCEL -DUNMOUNT_TOO -DCOMMITS -DGRANT_FAILS
run holds cover "the same without keys, with fences that fail" \
	:: -DNC=1 -DEXPIRE -DCANCEL -DUNMOUNT_TOO -DCOMMITS -DGRANT_FAILS -DFENCE_FAILS -DOPS=PUNCH
run holds cover "two clients with keys, a program" \
	:: -DNC=2 -DACCESS -DCOMMITS -DOPS=PUNCH
run holds large "the same, and two threads fence" \
	:: -DNC=2 -DFENCERS=2 -DACCESS -DCOMMITS -DOPS=PUNCH
run holds large "two clients that come and go, a program" \
	:: -DNC=2 -DBREAKS -DOPS=PUNCH
run holds safety "two programs and a client with keys" \
	:: -DNC=1 -DNW=2 -DACCESS -DBREAKS
run holds safety "fences that fail, of leases with two keys" \
	:: -DNC=1 -DFB=2 -DACCESS -DFENCE_FAILS -DCOMMITS -DOPS=PUNCH
run holds safety "fences that fail, of sessions that end" \
	:: -DNC=1 -DACCESS -DBREAKS -DEXPIRE -DFENCE_FAILS -DOPS=PUNCH+WRITE
run holds large "write leases against clones (I5)" \
	:: -DNC=2 -DNF=2 -DNB=3 -DOPS=CLONE
run holds cover "write leases of one client against clones and writes (I5)" \
	:: -DNC=1 -DNF=2 -DNB=3 -DOPS=CLONE+WRITE -DACCESS
run holds cover "commits that grow a file whose last block is shared (I4)" \
	:: -DNC=2 -DFB=2 -DEND=1 -DNF=2 -DLENT_FILES=1 -DNB=3 -DCOMMITS -DREADER_AND_WRITER -DOPS=0
run holds cover "the same that wait for the reader (I4, I9)" \
	:: -DNC=2 -DFB=2 -DEND=1 -DNF=2 -DLENT_FILES=1 -DNB=3 -DREADER_AND_WRITER -DOPS=GROW
run holds safety "the same, and changes of what is written" \
	:: -DNC=2 -DFB=2 -DEND=1 -DNF=2 -DLENT_FILES=1 -DNB=3 -DREADER_AND_WRITER -DOPS=GROW+PUNCH
run holds cover "an operation that waits twice on one file" \
	:: -DNC=1 -DOPS=CLONE
run holds cover "the server dies at any moment" \
	:: -DNC=1 -DACCESS -DBREAKS -DCOMMITS -DCRASH -DOPS=PUNCH
run holds cover "policy ebusy recalls nobody and nobody waits" \
	:: -DNC=2 -DNW=2 -DACCESS -DPOLICY=P_EBUSY -DOPS=PUNCH
run holds safety "policy block revokes nobody; a wait can be interrupted" \
	:: -DNC=2 -DCANCEL -DPOLICY=P_BLOCK -DOPS=PUNCH
run holds cover "policy block for leases, revoke for operations: clocks join" \
	:: -DNC=2 -DPOLICY=P_REVOKE -DLEASE_POLICY=P_BLOCK -DOPS=PUNCH
run holds cover "policy block with a deadline waits no longer (I9)" \
	:: -DTIMED -DNC=1 -DPOLICY=P_BLOCK -DDEADLINE_TICKS=3 -DBOUND=3 -DOPS=PUNCH
run fails safety "the deadline is not below it" I9 \
	:: -DTIMED -DNC=1 -DPOLICY=P_BLOCK -DDEADLINE_TICKS=3 -DBOUND=2 -DOPS=PUNCH

# Time passes.  An operation under revoke waits for the drain clock, 2 ticks, and for each key
# at most 1 tick on each step of its ladder.  One tick less is too little: time does pass that far.
# bound TICKS NAME :: DEFINITIONS...
bound() {
	local ticks=$1 name=$2
	shift 3
	run holds "${kind:-safety}" "$name: $ticks ticks (I9)" :: -DTIMED "-DBOUND=$ticks" "$@"
	run fails safety "$name: not $((ticks - 1))" I9 :: -DTIMED "-DBOUND=$((ticks - 1))" "$@"
}
bound 4 "two programs wait for one key" :: -DNC=1 -DNW=2 -DACCESS -DOPS=PUNCH+WRITE
# A session that needed the harder step begins with it the next time.
kind=cover bound 5 "one waits for a lease with two keys" \
	:: -DNC=1 -DFB=2 -DNB=3 -DOPS=PUNCH+TRUNCATE
bound 6 "one waits for two leases" :: -DNC=2 -DOPS=PUNCH
bound 6 "one waits for a fence that is tried again, or stuck" :: -DNC=1 -DFENCE_FAILS -DOPS=PUNCH

# Without a clock: whoever waits is woken some time, if every party goes on some time.
run holds liveness "who waits under revoke gets done, whatever the holder does" \
	:: -DNC=1 -DACCESS -DBREAKS -DCOMMITS -DOPS=PUNCH+WRITE
run holds liveness "who waits gets done if no fence is ever confirmed" \
	:: -DNC=1 -DFENCE_FAILS -DOPS=PUNCH
run holds liveness "who waits gets done although two clients ask again and again" \
	:: -DNC=2 -DOPS=PUNCH
run holds liveness "who waits for two files gets done (clone)" \
	:: -DNC=2 -DNF=2 -DNB=3 -DOPS=CLONE -DOWN_FILES
run fails liveness "policy block without a deadline may wait for ever" "acceptance cycle" \
	:: -DNC=1 -DPOLICY=P_BLOCK -DOPS=PUNCH

# ---- mutations: each must be found ----

run fails safety "mutation: no fence, by I3" I3 :: -DNC=1 -DACCESS -DOPS=PUNCH -DDROP_FENCE
run fails safety "mutation: no fence, by I1" I1 \
	:: -DNC=1 -DACCESS -DOPS=PUNCH+WRITE -DNO_I3 -DNO_I10 -DDROP_FENCE
run fails safety "mutation: no fence, by I10" I10 \
	:: -DNC=1 -DACCESS -DOPS=PUNCH+WRITE -DNO_I3 -DNO_I1 -DDROP_FENCE
run fails safety "mutation: unpinned before the key is dead, by I3" I3 \
	:: -DNC=1 -DACCESS -DOPS=PUNCH -DUNPIN_EARLY
run fails safety "mutation: unpinned before the key is dead, by I1" I1 \
	:: -DNC=1 -DACCESS -DOPS=PUNCH+WRITE -DNO_I3 -DNO_I10 -DUNPIN_EARLY
run fails safety "mutation: no second look after the wait, by I4" I4 \
	:: -DNC=2 -DNF=2 -DNB=3 -DOPS=CLONE -DSKIP_RECHECK
run fails safety "mutation: no second look after the wait, by I5" I5 \
	:: -DNC=2 -DNF=2 -DNB=3 -DOPS=CLONE -DNO_I4 -DSKIP_RECHECK
run fails safety "mutation: leases are granted while an operation waits (I9)" I9 \
	:: -DTIMED -DBOUND=12 -DNC=2 -DOPS=PUNCH -DGRANT_WHILE_BREAKER_WAITS
run fails liveness "mutation: the same, without a clock" "acceptance cycle" \
	:: -DNC=2 -DOPS=PUNCH -DGRANT_WHILE_BREAKER_WAITS
run fails liveness "mutation: what a wait held before is let go (I9)" "acceptance cycle" \
	:: -DNC=2 -DNF=2 -DNB=3 -DOPS=CLONE -DOWN_FILES -DFORGET_HOLDS
run fails safety "mutation: pinned before the lease is in the table (I4)" I4 \
	:: -DNC=1 -DOPS=PUNCH -DPIN_BEFORE_TABLE
run fails safety "mutation: a fence does not wait for a commit (I4)" I4 \
	:: -DNC=1 -DCOMMITS -DOPS=PUNCH -DNO_COMMIT_WAIT
run fails safety "mutation: a growing commit does not ask (I4)" I4 \
	:: -DNC=2 -DFB=2 -DEND=1 -DNF=2 -DLENT_FILES=1 -DNB=3 -DCOMMITS -DOPS=0 -DCOMMIT_DOES_NOT_ASK
run fails safety "mutation: the holder is not told (I10)" I10 \
	:: -DNC=1 -DOPS=PUNCH -DDO_NOT_TELL

# ---- do them ----

# start I: run number I, in $work/I.
start() {
	local kind definitions
	IFS='|' read -r _ kind _ _ definitions <<<"${runs[$1]}"
	# shellcheck disable=SC2086 # a list of words
	(verify "$work/$1" "$kind" $definitions)
}

for i in "${!runs[@]}"; do
	while [ "$(jobs -rp | wc -l)" -ge "${PML_MODEL_JOBS:-2}" ]; do
		wait -n
	done
	start "$i" &
done
wait

# ---- what came of them ----

good=()
for i in "${!runs[@]}"; do
	IFS='|' read -r want kind name sign definitions <<<"${runs[$i]}"
	out=$work/$i/out
	got=$(outcome "$work/$i")
	if [ "$got" != "$want" ]; then
		not_ok "$name" "it $got: $definitions"$'\n'"$(
			grep -vE '^\s*(unreached|flat)' "$out" | tail -n 30)"
	elif [ "$got" = fails ] && ! grep -qE "(assertion violated.*\<$sign\>)|$sign \(at" "$out"; then
		not_ok "$name" "not by $sign: $(grep '^pan:1' "$out")"
	else
		ok "$name"
		[ "$got" = holds ] && echo "# $(awk '/states, stored/ { s = $1 }
			/total actual memory/ { m = $1 } /pan: elapsed/ { t = $4 }
			END { print s " states, " m " MiB, " t " s" }' "$out")"
		[ "$got $kind" = "holds cover" ] && good+=("$work/$i")
	fi
done

# No line of the model is reached by none of the runs that hold: else it would prove nothing.
lines_of() {
	awk '
		/^unreached in/ { p = $4; next }
		match($0, /[a-z]+\.pml:[0-9]+, state [0-9]+, /) && !/"-end-"/ {
			split(substr($0, RSTART, RLENGTH), part, /, /)
			if (FILENAME ~ /all$/) line[p, part[2]] = part[1]
			else unseen[p, part[2]] = 1
		}
		END { for (k in line) print line[k], ((k in unseen) ? "unseen" : "seen") }
	' "$1/all" "$1/out"
}
for dir in "${good[@]}"; do
	lines_of "$dir"
done | sort -u >"$work/lines"
never=$(awk '{ if ($2 == "seen") seen[$1]; else unseen[$1] }
	END { for (l in unseen) if (!(l in seen)) print l }' "$work/lines" | sort -V)
if [ "$(grep -c ' seen$' "$work/lines")" -lt 200 ]; then
	not_ok "the runs reach every line of the model" "only $(grep -c ' seen$' "$work/lines") lines seen"
elif [ -n "$never" ]; then
	not_ok "the runs reach every line of the model" "$(for line in ${never//flat.pml:/}; do
		sed -n "${line}p" "$flat"
	done)"
else
	ok "the runs reach every line of the model ($(grep -c ' seen$' "$work/lines"))"
fi

echo "1..$n"
exit $((failures > 0))
