#!/bin/sh
# PCP QA Test No. NNNN
# The MPTCP PMDA on recorded answers of a kernel: metrics, instances and values
# are the same on every machine, and no MPTCP is needed there.
#
# SPDX-License-Identifier: GPL-2.0-or-later

seq=`basename $0 .sh`
echo "QA output created by $seq"

# get standard environment, filters and checks
. ./common.python

[ $PCP_PLATFORM = linux ] || _notrun "MPTCP PMDA only works on Linux"
MPTCP_PMDA=${MPTCP_PMDA:-$PCP_PMDAS_DIR/mptcp}
[ -f $MPTCP_PMDA/pmdamptcp.python ] || _notrun "MPTCP PMDA is not installed"
# the links in $PCP_PMDAS_DIR lead to where its modules are
MPTCP_PMDA=`dirname \`readlink -f $MPTCP_PMDA/pmdamptcp.python\``
export MPTCP_PMDA
for module in pcp.pmda pyroute2 psutil
do
    $python -c "import $module" >/dev/null 2>&1 || _notrun "Python module $module is missing"
done
case `$python -c 'import sys; print(sys.byteorder)'`
in
    little) ;;
    *) _notrun "recorded on a little-endian machine" ;;
esac

_cleanup()
{
    cd $here
    $sudo rm -rf $tmp $tmp.*
}

status=1	# failure is the default!
trap "_cleanup; exit \$status" 0 1 2 3 15

# addresses in memory and times are those of this run
_filter()
{
    sed -e 's/0x[0-9a-f][0-9a-f]*/ADDR/g' -e 's/timestamp: .*/timestamp: TIME/' -e '/^Log for pmda/d' \
	-e '/^dbpmda> $/d'
}

# commands on standard input, to an agent that may take its time to start
_dbpmda()
{
    { echo "open pipe $python $here/mptcp/agent_canned.py"; echo "getdesc on"; cat; echo "quit"; } |
	dbpmda -q 30 -n $tmp.root -ie 2>&1 | sed -n '/^dbpmda> getdesc/,/^dbpmda> quit/p' | _filter
}

# real QA test starts here
mkdir $tmp && cd $tmp || exit
printf 'root {\n\tmptcp\t262:*:*\n}\n' >$tmp.root

echo "== instances and values"
echo "traverse mptcp" | _dbpmda | sed -n 's/^ *\(mptcp\.[.a-z0-9_]*\).*/\1/p' >$tmp.names
{
    for serial in 2 3 4 5 6
    do
	echo "instance 262.$serial"
    done
    # not what is of this run only: its own costs, processes, and events
    sed -e '/^mptcp\.agent\./d' -e '/^mptcp\.event\./d' -e '/^mptcp\.service\./d' \
	-e '/^mptcp\.connection\.\(pid\|command\)$/d' -e 's/^/fetch /' $tmp.names
} | _dbpmda

# success, all done
status=0
exit
