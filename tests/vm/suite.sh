# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# suite.sh -- for guest-suite and newer-suite: TAP programs as one stream
#
# Runs them, some beside each other, and renumbers their lines.  "# took SECONDS NAME" says how long
# each was, for run-tests.  Sourced with BUILD_DIR as the first argument.
build=${1:?BUILD_DIR}

# result ok|"not ok" DESCRIPTION: in one write, as others write beside it; play() counts.
result() { echo "$1 - $2"; }

# program NAME COMMAND...: passes its TAP on, with NAME in front.
program() {
	local name=$1 line kind status n=0 bad=0 begin=$SECONDS
	shift
	while IFS= read -r line; do
		case $line in
		'ok '* | 'not ok '*)
			kind=${line%%ok *}ok
			line=${line#*ok }
			result "$kind" "$name: ${line#[0-9]*- }"
			n=$((n + 1))
			[ "$kind" = ok ] || bad=1
			;;
		'Bail out!'*) result "not ok" "$name: $line"; n=$((n + 1)) bad=1 ;;
		'1..'*) ;;
		status=*) status=${line#status=} ;;
		*) echo "# ${line#\# }" ;;
		esac
	done < <("$@" 2>&1; echo "status=$?")
	echo "# took $((SECONDS - begin)) $name"
	if [ "$status" != 0 ] && [ $bad = 0 ]; then
		result "not ok" "$name ended with status $status"
	elif [ $n = 0 ]; then
		result "not ok" "$name ran no test"
	fi
}

# fence METHOD COUNT [OPTION...]: a fence that the server relies on here has no violation.
fence() {
	local line begin=$SECONDS what="$1${3:+ ${*:3}}"
	line=$("$build/tools/pmemlease" fencetest --method "$1" --count "$2" --quiet --no-record \
		"${@:3}" 2>&1)
	case $? in
	0) result ok "fence: $what lets nothing through" ;;
	*) result "not ok" "fence: $what lets nothing through" ;;
	esac
	echo "# ${line//$'\n'/$'\n'# }"
	echo "# took $((SECONDS - begin)) fence $what"
}

# beside FUNCTION...: all of them at the same time.
beside() {
	local function pids=()
	for function; do
		"$function" &
		pids+=($!)
	done
	wait "${pids[@]}"
}

# play FUNCTION: what it runs, numbered, with the plan; then the exit status.
play() {
	local line n=0 bad=0
	while IFS= read -r line; do
		case $line in
		'ok - '* | 'not ok - '*)
			n=$((n + 1))
			[ "${line#not }" = "$line" ] || bad=1
			echo "${line%%ok -*}ok $n -${line#*ok -}"
			;;
		*) echo "$line" ;;
		esac
	done < <("$1")
	echo "1..$n"
	exit $bad
}
