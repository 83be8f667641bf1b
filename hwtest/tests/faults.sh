# For the suites of faults: the chain, a writer that keeps books, and faults of the raw drive at run time.

# chain_of_faults ARGUMENT...: as chain, with arguments for the lab drive.
chain_of_faults() {
    cd /dev/shm && target_modules && : >plan
    raw_drive --create "${MIB:-64}" --barcode LAB001L8 --fault-plan plan "$@" && found && services
    "$BIN/sealtape" volume load drive0 && "$BIN/sealtape" volume label drive0 T1 || fail "label: $(cat run.log)"
    ready
} >&2

# The attentions of the start are told to the first commands.
ready() {
    sg_turs $NSTSG >/dev/null 2>&1
    sg_turs $NSTSG >/dev/null 2>&1
    sg_turs $NSTSG || fail "not ready: $(cat run.log)"
}

# faults LINE...: from now on the raw drive fails so; counting starts now.
faults() {
    local before
    before=$(grep -c ^plan raw.out)
    printf '%s\n' "$@" >plan
    kill -HUP "$RAW_PID"
    wait_for eval "((\$(grep -c ^plan raw.out) > $before))" || fail "the lab drive takes no plan"
}

write() { "$BIN/sealtape-lab-writer" write $NST --log books "$@"; }
check() { "$BIN/sealtape-lab-writer" check $NST --log books; }

# A new volume: what was written goes, the books too.
new_tape() {
    faults
    rm -f books
    mt -f $NST rewind && mt -f $NST weof || fail "rewind, weof: $(tail -5 run.log)"
    mt -f $NST rewind && printf 'end 0\nfilemark\nacknowledged\nsynchronised\n' >books
}

# Stop and start the services: what they remember is what stands on the disk and on the medium.
fresh_services() {
    stop_services
    rm -f run.log # Nobody takes the old one for the new one's.
    services
    "$BIN/sealtape" volume load drive0 >/dev/null || fail "load: $(tail -5 run.log)"
    ready
}
