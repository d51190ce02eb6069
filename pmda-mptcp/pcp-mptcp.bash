# SPDX-License-Identifier: GPL-2.0-or-later
#
# Completion of bash for "pcp mptcp" and "pcp-mptcp".
#
# Belongs in /etc/bash_completion.d (pkg-config --variable=compatdir
# bash-completion), which is read when a shell starts: where bash-completion
# looks when it first meets a command, the file for "pcp" is PCP's own, which
# completes PCP's other tools and leaves out "pcp" itself. What completed "pcp"
# before this file goes on to do so for all its commands but mptcp.
#
# Names are asked for at the host or archive that stands on the line; nothing
# is proposed where it does not answer.

_pcp_mptcp_commands="connections subflows events why check"
_pcp_mptcp_options="--archive= --host= --start= --finish= --origin= --interval= --samples= --hostzone --timezone=
    --container= --json --color= --version --help"

# The host or archive that stands on a line, as options in the array source.
_pcp_mptcp_source() {
    local word previous=
    source=()
    for word; do
        case $previous in
        -a | --archive) source=(-a "$word") ;;
        -h | --host) source=(-h "$word") ;;
        esac
        case $word in
        --archive=*) source=(-a "${word#*=}") ;;
        --host=*) source=(-h "${word#*=}") ;;
        esac
        previous=$word
    done
}

# Instances (-I) or values (-v) of a metric, one a line.
_pcp_mptcp_ask() {
    # NAME 2 "lo" "enp1s0", and values without quotes if they are numbers
    command timeout 3 pmprobe "${source[@]}" "$1" "$2" 2>/dev/null |
        command sed -n 's/^[^ ]* [1-9][0-9]* //p' | command grep -o '"[^"]*"\|[^ "]*' |
        command tr -d '"' | command sort -u
}

# Archives by their files, and directories on the way to them.
_pcp_mptcp_archives() {
    compgen -f -- "$1" | command sed -n 's/\.index$//p'
    compgen -d -S / -- "$1"
}

# Completes word; all others of the line follow, the command of "pcp mptcp" being the first of its own.
_pcp_mptcp_complete() {
    local cur=$1 option=$2 command= word found source
    shift 2
    _pcp_mptcp_source "$@"
    for word; do
        [[ " $_pcp_mptcp_commands " == *" $word "* ]] && command=$word && break
    done
    case $option in
    -a | --archive) found=$(_pcp_mptcp_archives "$cur") && compopt -o filenames -o nospace 2>/dev/null ;;
    -h | --host) found=$(compgen -A hostname) ;;
    --color) found="auto always never" ;;
    --interface) found=$(_pcp_mptcp_ask -I mptcp.interface.up) ;;
    --address) found=$(_pcp_mptcp_ask -v mptcp.pm.endpoint.address) ;;
    --port) found=$(_pcp_mptcp_ask -v mptcp.service.port) ;;
    --process) found=$(_pcp_mptcp_ask -v mptcp.connection.command) ;;
    # The tool names its columns when it does not know one: "...: name, interface, ..."
    --sort) found=$(command timeout 5 pcp "${source[@]}" mptcp "$command" -t 0.1 '--sort=?' 2>&1 </dev/null |
        command sed -n 's/.*: //;s/, / /gp' | command head -n 1) ;;
    # "NAME  what it is", an empty line, and "THRESHOLD=NUMBER  what it is"
    --only | --ignore) found=$(command pcp mptcp check --list 2>/dev/null </dev/null | command sed '/^$/,$d;s/ .*//')
        [[ $cur == *,* ]] && found=$(compgen -P "${cur%,*}," -W "$found") ;;
    --set) found=$(command pcp mptcp check --list 2>/dev/null </dev/null | command sed -n 's/^\([a-z_]*=\).*/\1/p')
        compopt -o nospace 2>/dev/null ;;
    -S | --start | -T | --finish | -O | --origin | -t | --interval | -s | --samples | -Z | --timezone | \
        --container) return ;;
    *)
        if [[ $cur == -* ]]; then
            found=$_pcp_mptcp_options
            case $command in
            '') found+=" --full-screen" ;;
            connections | subflows)
                found+=" --full-screen --sort= --reverse --interface= --address= --port= --process=" ;;
            check) found+=" --only= --ignore= --set= --list" ;;
            esac
            compopt -o nospace 2>/dev/null
        elif [[ -z $command ]]; then
            found=$_pcp_mptcp_commands
        elif [[ $command == why ]]; then
            found="$(_pcp_mptcp_ask -I mptcp.connection.name | command sed 's/ .*//')
                $(_pcp_mptcp_ask -v mptcp.pm.endpoint.address)"
        fi
        ;;
    esac
    local IFS=$' \t\n'
    [[ $option == -a || $option == --archive ]] && IFS=$'\n'
    COMPREPLY=($(compgen -W "$found" -- "$cur"))
    # A space where nothing can follow: after names and flags, not after "--sort=".
    [[ $cur == -* && ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *= ]] && compopt +o nospace 2>/dev/null
    # Bash takes what stands after the last ":" for the word.
    [[ $cur == *:* ]] && COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
    return 0
}

# "pcp-mptcp ..." or "pcp [OPTION...] mptcp ..."; another command of pcp is left to who completed it before.
_pcp_mptcp() {
    local line=${COMP_LINE:0:COMP_POINT} words cur option= index
    COMPREPLY=()
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]} - 1]}
    if [[ $cur == --*=* ]]; then
        option=${cur%%=*}
        cur=${cur#*=}
    elif ((${#words[@]} > 2)); then
        option=${words[${#words[@]} - 2]}
    fi
    if [[ ${words[0]##*/} == pcp ]]; then
        for ((index = 1; index < ${#words[@]} - 1; index++)); do
            case ${words[index]} in
            -[aAghnOpsStTZ] | --archive | --host | --start | --finish | --origin | --interval | --samples | \
                --timezone | --align | --namespace) ((index++)) ;;
            -*) ;;
            *) break ;;
            esac
        done
        if ((index >= ${#words[@]} - 1)) && [[ $cur != -* && $option != -* ]]; then
            COMPREPLY=($(compgen -W "$(_pcp_mptcp_tools)" -- "$cur"))
            return
        elif [[ ${words[index]} != mptcp ]] || ((index >= ${#words[@]} - 1)); then
            [[ -n $_pcp_mptcp_before ]] && "$_pcp_mptcp_before" "$@"
            return
        fi
    fi
    _pcp_mptcp_complete "$cur" "$option" "${words[@]:1:${#words[@]}-2}"
}

# What "pcp" can run, as its own --help lists it.
_pcp_mptcp_tools() {
    local file binaries
    binaries=$(command sed -n 's/^PCP_BINADM_DIR=//p' "${PCP_CONF:-/etc/pcp.conf}" 2>/dev/null)
    for file in "$binaries"/pcp-* "$HOME"/.pcp/bin/pcp-*; do
        [[ -x $file ]] && echo "${file##*/pcp-}"
    done
}

_pcp_mptcp_before=$(complete -p pcp 2>/dev/null | command sed -n 's/.* -F \([^ ]*\) .*/\1/p')
[[ $_pcp_mptcp_before == _pcp_mptcp ]] && _pcp_mptcp_before=
complete -o default -F _pcp_mptcp pcp pcp-mptcp
