# SPDX-License-Identifier: GPL-2.0-or-later
#
# What Install and Remove both know of the client side: which file goes where,
# and how pmlogger and pmie come to use them. Read by both after PCP's
# environment, with $source and $target set.

# "target source" of the files that go elsewhere than the agent's directory.
client_files() {
    from=$source/pmda-mptcp
    for page in "$from"/*.1; do
        echo "$PCP_MAN_DIR/man1/${page##*/} $page"
    done
    [ -f "$from/pcp-mptcp" ] && echo "$PCP_BINADM_DIR/pcp-mptcp $from/pcp-mptcp"
    below "$from" pcp_mptcp | grep '\.py$' | while read -r file; do
        echo "$PCP_SHARE_DIR/mptcp/$file $from/$file"
    done
    # Not where bash looks when it meets a new command: PCP has one file for "pcp"
    # there, and the first one found is the only one.
    completions=$(pkg-config --variable=compatdir bash-completion 2>/dev/null)
    completions=${completions:-$PCP_ETC_DIR/bash_completion.d}
    [ -f "$from/pcp-mptcp.bash" ] && [ -d "$completions" ] &&
        echo "$completions/pcp-mptcp $from/pcp-mptcp.bash"
    return 0
}

# "target pristine source" of what administrators edit. The copy of what was
# installed last, next to the agent, tells whether they did.
config_files() {
    echo "$PCP_SYSCONF_DIR/mptcp/mptcp.conf $target/mptcp.conf.sample $source/pmda-mptcp/mptcp.conf"
    below "$source/pmda-mptcp" etc | while read -r file; do
        echo "$PCP_SYSCONF_DIR/${file#etc/} $target/$file $source/pmda-mptcp/$file"
    done
}

# PCP looks for groups of pmlogger and rules of pmie in its directory under /var.
config_links() {
    below "$source/pmda-mptcp" etc | sed -n 's,^etc/\(pm\(log\|ie\)conf/\),\1,p' | while read -r file; do
        echo "$PCP_VAR_DIR/config/$file $PCP_SYSCONF_DIR/$file"
    done
}

below() { # directory name: its files, without those of editors
    [ ! -d "$1/$2" ] || (cd "$1" && find "$2" -type f ! -name '.*' ! -name '*~' ! -name '*.pyc' | sort)
}

# Removes files, and directories of ours that this leaves empty.
remove_listed() {
    while read -r file; do
        rm -f "$file"
        folder=$(dirname "$file")
        case $file in
        *.py) rm -rf "$folder/__pycache__" ;;
        esac
        remove_empty "$folder"
    done
}

# A configuration file goes if it is what was installed.
remove_unedited() { # file pristine
    if [ -f "$1" ] && cmp -s "$1" "$2"; then
        rm -f "$1"
        remove_empty "$(dirname "$1")"
    elif [ -f "$1" ]; then
        say "$1 was edited and stays (./Remove --purge removes it)"
    fi
}

remove_empty() {
    folder=$1
    while :; do
        case $folder in
        */mptcp | */mptcp/*) rmdir "$folder" 2>/dev/null || return 0 ;;
        *) return 0 ;;
        esac
        folder=$(dirname "$folder")
    done
}

# ------------------------------------------------------------ pmlogger and pmie

# Both generate their configuration from all groups or rules that they find, when
# they start. Only those of this host are looked at, never those of other hosts.

booted_with_systemd() { [ -d /run/systemd/system ]; }

pmcd_answers() { pmprobe -v pmcd.version 2>/dev/null | awk '$2 == 1 { ok = 1 } END { exit !ok }'; }

wait_for() { # seconds command
    left=$1
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 1
    done
}

# The daemons that run and for which there is something here.
running_daemons() {
    [ -d "$source/pmda-mptcp/etc/pmlogconf" ] && runs pmlogger && echo pmlogger
    [ -d "$source/pmda-mptcp/etc/pmieconf" ] && runs pmie && echo pmie
    return 0
}

runs() { [ -n "$(pid_of "$1")" ]; }
stopped() { ! runs "$1"; }

pid_of() { # daemon
    pid=$(cat "$PCP_RUN_DIR/$1.pid" 2>/dev/null) &&
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && echo "$pid"
}

# One line on each daemon: it was started anew with what there is now, or why
# not. Never a reason to fail. A daemon that ran before and runs no more is back.
renew_daemons() { # daemons with|without what-to-do-by-hand
    for daemon in $1; do
        if ! pmcd_answers; then
            say "$daemon stays as it is while pmcd is down; once started anew, it goes on $2 MPTCP"
        elif runs "$daemon" && ! generated "$daemon"; then
            say "$daemon has a configuration that PCP does not generate, $(config_of "$daemon"); it stays: $3"
        elif runs "$daemon" && ! managed "$daemon"; then
            say "$daemon was not started by PCP's scripts and stays; once started anew, it goes on $2 MPTCP"
        elif restart "$daemon"; then
            say "$daemon was started anew, $2 MPTCP"
        else
            say "$daemon does not start again: see $PCP_LOG_DIR/$daemon/${daemon}_check.log"
        fi
    done
}

restart() { # daemon
    old_pid=$(pid_of "$1")
    if under_systemd "$1"; then
        systemctl restart "$1"
    else
        [ -z "$old_pid" ] || { kill "$old_pid" && wait_for 10 stopped "$1"; }
        case $1 in
        pmlogger) pmlogger_check --quick --only-primary ;;
        *) "$1_check" --only-primary ;;
        esac
    fi >/dev/null 2>&1 </dev/null
    wait_for 10 runs "$1" && [ "$(pid_of "$1")" != "$old_pid" ]
}

under_systemd() { booted_with_systemd && systemctl is-active -q "$1"; }

# Started by hand or by another supervisor: whoever did that has to do it again.
managed() { # daemon
    under_systemd "$1" || [ "$1" != pmlogger ] ||
        tr '\0' ' ' <"/proc/$(pid_of pmlogger)/cmdline" | grep -q -e '-m *\(pmlogger_check\|pmlogger_daily\|reexec\)'
}

generated() { # daemon
    config=$(config_of "$1")
    [ -f "$config" ] && grep -q '^[#/]* *Auto-generated by pm\(log\|ie\)conf' "$config" &&
        { [ "$1" != pmlogger ] || ! grep -qs '^PMLOGGER_CHECK_SKIP_LOGCONF=yes' "$PCP_SYSCONFIG_DIR/pmlogger"; }
}

# The file behind the option -c of a daemon that runs.
config_of() { # daemon
    pid=$(pid_of "$1")
    config=$(tr '\0' '\n' <"/proc/$pid/cmdline" | sed -n '/^-c$/{n;p;}; s/^-c\(..*\)/\1/p' | tail -n 1)
    case $config in
    /*) echo "$config" ;;
    *) readlink -e "/proc/$pid/cwd/$config" || echo "$PCP_VAR_DIR/config/$1/$config" ;;
    esac
}
