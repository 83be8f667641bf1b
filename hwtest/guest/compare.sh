# The same programs on two drives: the twin, a lab drive that no service owns, with its own kind of cartridge, and the virtual drive. Needs
# chain.sh.

# twin [ARGUMENT...]: starts the twin; arguments as for raw_drive. Its nodes are then in TWIN (/dev/nstN), TWINST (rewinds at close) and
# TWINSG, its process in TWIN_PID.
twin() {
    "$BIN/sealtape-lab-drive" --image /dev/shm/twin.img --name twin --hba 5775 --serial TWIN000001 "$@" >twin.out 2>twin.log &
    TWIN_PID=$!
    wait_for grep -q ^ready twin.out || fail "the twin does not start: $(cat twin.log)"
    local st
    read -r TWINSG st < <(scsi_by_serial TWIN000001) || fail "the twin has no nodes"
    TWINSG=/dev/$TWINSG TWIN=/dev/n$st TWINST=/dev/$st
    wait_for sg_turs "$TWINSG" || fail "the twin is not ready: $(sg_turs -v "$TWINSG" 2>&1)" # It tells of the power-on first.
}

stop_twin() {
    kill "$TWIN_PID" && wait "$TWIN_PID" || fail "the twin ended with $?: $(cat twin.log)"
}

COMPARED=0 DIFFERENT=0

# read_tape NODE ARGUMENT...: dd, whose account comes before the checksum of what it read; the exit code is dd's.
read_tape() {
    dd if="$1" of="read-$ROUND" status=noxfer "${@:2}"
    local code=$?
    cksum "read-$ROUND" && return $code
}

# both COMMAND: runs a line of shell on the twin and on the virtual drive, and compares exit status and what it prints, and after it
# `mt status` (position, file and block number, flags, density, block size) and `mt tell`. @ stands for the drive's node that does not
# rewind, % for the one that does; $ROUND names the round (for files). What they answered is in SAID. AFTER=no leaves `mt` out.
both() {
    local ROUND said=()
    for ROUND in twin virtual; do
        local node=$TWIN rewinding=$TWINST
        [[ $ROUND == twin ]] || node=$NST rewinding=$ST
        local line=${1//@/$node}
        line=${line//%/$rewinding}
        SAID=$(
            set -o pipefail
            eval "$line" 2>&1
            echo "exit $?"
            [[ ${AFTER-yes} == no ]] || { mt -f "$node" status && mt -f "$node" tell; } 2>&1
        )
        # The names of nodes differ.
        SAID=${SAID//$rewinding/REWINDING} SAID=${SAID//$node/NODE} SAID=${SAID//$ROUND/ROUND}
        said+=("$SAID")
    done
    COMPARED=$((COMPARED + 1))
    [[ ${said[0]} == "${said[1]}" ]] && return
    DIFFERENT=$((DIFFERENT + 1))
    echo "DIFFERENT: $1"
    diff <(echo "${said[0]}") <(echo "${said[1]}")
}

# expect TEXT: the last answer of both drives holds this text: they may agree on something wrong.
expect() {
    [[ $SAID == *"$1"* ]] && return
    DIFFERENT=$((DIFFERENT + 1))
    echo "UNEXPECTED (wanted: $1): $SAID"
}

# compared LEAST: the end of a comparison.
compared() {
    echo "$COMPARED compared, $DIFFERENT different"
    ((DIFFERENT == 0)) || fail "$DIFFERENT different"
    ((COMPARED >= $1)) || fail "only $COMPARED compared"
}
