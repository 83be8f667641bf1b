# For the suites of recovery: the two services each on its own, so that one can be killed.

# hand_started ARGUMENT...: as chain_of_faults, with both services started by hand.
hand_started() {
    chain_of_faults "$@"
    stop_services
    keyd
    data_path
    "$BIN/sealtape" volume load drive0 >/dev/null || fail "load: $(cat data.log)"
    ready
} >&2

keyd() {
    "$BIN/sealtape-keyd" 2>keyd.log &
    KEYD_PID=$!
    WAIT=30 wait_for grep -q ' ready ' keyd.log || fail "sealtape-keyd: $(cat keyd.log)"
}

# data_path: starts sealtaped, whose log is data.log, and finds the virtual drive's nodes again.
data_path() {
    rm -f data.log # Nobody takes the old one for the new one's.
    "$BIN/sealtaped" 2>data.log &
    DATA_PID=$!
    WAIT=30 wait_for eval 'grep -q " ready " data.log || ! kill -0 $DATA_PID'
    grep -q ' ready ' data.log || fail "sealtaped: $(cat data.log)"
    local st
    read -r NSTSG st < <(scsi_by_serial VIRTUAL001) || fail "the virtual drive has no nodes"
    NSTSG=/dev/$NSTSG NST=/dev/n$st
}

kill_data() {
    kill -9 $DATA_PID
    wait $DATA_PID
    [[ $? == 137 ]] || fail "sealtaped had ended by itself: $(cat data.log)"
} 2>/dev/null

# The service is started again: it takes the device over, and the host keeps its node.
take_over() {
    local node=$NST generic=$NSTSG
    data_path
    grep -q 'virtual drive served unit="drive0" resumed=true' data.log || fail "not taken over: $(cat data.log)"
    grep -q 'kept=true' data.log || fail "linked anew: $(cat data.log)"
    [[ $NST == "$node" && $NSTSG == "$generic" ]] || fail "other nodes: $NST $NSTSG, before $node $generic"
}

stop_by_hand() {
    kill $DATA_PID && wait $DATA_PID || fail "sealtaped ended with $?: $(cat data.log)"
    kill $KEYD_PID && wait $KEYD_PID || fail "sealtape-keyd ended with $?: $(cat keyd.log)"
}

# Sixteen bytes by WRITE(6), past st: whether the drive acknowledges them.
raw_write() { sg_raw -s 16 -i sixteen $NSTSG 0a 00 00 00 10 00 >raw_write.said 2>&1; }
