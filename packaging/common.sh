# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the two builders share: options, the version, and a clean copy of what is
# committed. Read by both; sets $top, $work, $output, $version and $date.

name=pcp-pmda-mptcp
top=$(cd "$(dirname "$0")/.." && pwd) || exit 1
kind=${0##*/}

usage() {
    cat <<End
Usage: packaging/$kind [-v VERSION] [DIRECTORY]
Build the .$kind package of the last commit into DIRECTORY, ./dist by default.
  -v VERSION  another version than that of setup.cfg
  -h          this text
End
}

fail() {
    echo "packaging/$kind: $*" >&2
    exit 1
}

# Of the last commit, not of the working tree: what is built can be built again.
commit() { git -c safe.directory='*' -C "$top" "$@"; }

export_sources() { # directory
    mkdir -p "$1" && commit archive HEAD | tar -x -C "$1" || fail "no commit to build from in $top"
}

# The output of the tools is for those who look for a fault.
quietly() {
    "$@" >"$work/log" 2>&1 </dev/null && return
    tail -n 40 "$work/log" >&2
    fail "$1 failed, see above"
}

version=
while getopts v:h option; do
    case $option in
    v) version=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || { usage >&2; exit 2; }

output=${1:-$top/dist}
mkdir -p "$output" && output=$(cd "$output" && pwd) || fail "cannot make $output"
version=${version:-$(sed -n 's/^version = //p' "$top/setup.cfg")}
SOURCE_DATE_EPOCH=$(commit log -1 --format=%ct) || fail "$top has no history to take the date from"
export SOURCE_DATE_EPOCH
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
umask 022
