# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# suite.sh -- for guest-suite and newer-suite: TAP programs as one stream
#
# Runs them and renumbers their lines.  "# took SECONDS NAME" says how long each was, for
# run-tests.  Sourced with BUILD_DIR as the first argument.
build=${1:?BUILD_DIR}
n=0 bad=0

result() { # result ok|"not ok" DESCRIPTION
	n=$((n + 1))
	echo "$1 $n - $2"
	[ "$1" = ok ] || bad=1
}

# program NAME COMMAND...: passes its TAP on, renumbered, with NAME in front.
program() {
	local name=$1 line kind text status before=$n begin=$SECONDS
	shift
	while IFS= read -r line; do
		case $line in
		'ok '* | 'not ok '*)
			kind=${line%%ok *}ok
			text=${line#*ok }
			text=${text#[0-9]*- }
			result "$kind" "$name: $text"
			;;
		'Bail out!'*) result "not ok" "$name: $line" ;;
		'1..'*) ;;
		status=*) status=${line#status=} ;;
		*) echo "# ${line#\# }" ;;
		esac
	done < <("$@" 2>&1; echo "status=$?")
	echo "# took $((SECONDS - begin)) $name"
	if [ "$status" != 0 ] && [ $bad = 0 ]; then
		result "not ok" "$name ended with status $status"
	elif [ $n = $before ]; then
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

# suite_end: the plan and the exit status.
suite_end() {
	echo "1..$n"
	exit $bad
}
