#!/usr/bin/env python3
"""`mutate.py FOLDER COUNT SEED`: random changes to good media, each with what the Python reader makes of it.

Writes COUNT media and a cases.json like the corpus's into FOLDER, for another reader to be compared with.
"""
import json
import os
import random
import sys
import tempfile

from cases_good import overwritten, standard
from cases_stream import Pipe
from check_reader import read
from media import FILEMARK, objects_file
from tape import Tape, random_plain
from writer import LZ4, ZSTD, Generation, recrc, stream

FIELDS = [(4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 3), (12, 4), (16, 4), (20, 4), (24, 4), (28, 4), (32, 16), (48, 16),
          (64, 8), (72, 8), (80, 8), (88, 8)]


def tapes():
    """Objects with their hidden ones, and the key."""
    marks = Tape().mark(2).open(5).write().mark(2).write(random_plain("a"), ZSTD).open(6).mark().write().write(compression=ZSTD)
    long = Tape(Generation(suite=3)).open(5).blocks(3).mark().open(6).blocks(2).locate(5).open(8).blocks(3, compression=LZ4).mark().write()
    return [(t.hidden + t.objects, t.generation.key) for t in (standard(), *overwritten(), marks, long)]


def streams():
    pipes = (Pipe().write().write().write().final(), Pipe(suite=2).write(compression=ZSTD).write(b"x").final(), Pipe(suite=3).final())
    return [([p.label, p.record, *p.records], p.generation.key) for p in pipes]


def change_block(block, others, rng):
    """One block changed: a field, a bit, a field of another record, its length; the CRC mostly made right."""
    block = bytearray(block)
    offset, length = rng.choice(FIELDS)
    how = rng.randrange(6)
    if how == 0 and block:
        block[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
    elif how == 1:
        block[offset:offset + length] = rng.choice([0, 1, 2, 3, 255]).to_bytes(length, "big")
    elif how == 2:
        value = int.from_bytes(block[offset:offset + length], "big") + rng.choice([-1, 1])
        block[offset:offset + length] = (value % (1 << 8 * length)).to_bytes(length, "big")
    elif how == 3:
        block[offset:offset + length] = rng.choice(others)[offset:offset + length]
    elif how == 4:
        del block[rng.randrange(len(block) + 1):]
    else:
        at = rng.randrange(len(block) + 1)
        block[at:at] = bytes(rng.randrange(1, 9))
    return recrc(bytes(block)) if rng.random() < 0.8 and len(block) > 4 else bytes(block) or b"\0"


def change(objects, spare, rng, filemarks):
    """One change to a sequence of objects; `spare`: records of other media to take from."""
    at = rng.randrange(len(objects))
    how = rng.randrange(8)
    blocks = [body for body in objects if body is not FILEMARK] or spare
    if how <= 2 and objects[at] is not FILEMARK:
        objects[at] = change_block(objects[at], blocks + spare, rng)
    elif how == 3:
        other = rng.randrange(len(objects))
        objects[at], objects[other] = objects[other], objects[at]
    elif how == 4 and len(objects) > 1:
        del objects[at]
    elif how == 5:
        objects.insert(at, rng.choice(objects))
    elif how == 6:
        objects[at] = rng.choice(spare)
    elif filemarks:
        objects[at] = FILEMARK
    else:
        del objects[at + 1:]


def main():
    folder, count, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    rng, cases = random.Random(seed), []
    all_tapes, all_streams = tapes(), streams()
    spare = [body for objects, _ in all_tapes + all_streams for body in objects[2:] if body is not FILEMARK]
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            is_tape = rng.random() < 0.7
            objects, key = rng.choice(all_tapes if is_tape else all_streams)
            objects = list(objects)
            hidden = 3 if is_tape else 2
            head, tail = objects[:hidden], objects[hidden:] or [rng.choice(spare)]
            for _ in range(rng.randrange(1, 4)):
                if rng.random() < 0.85:
                    change(tail, spare, rng, is_tape)
                else:
                    place = rng.choice([0, hidden - 1])
                    head[place] = change_block(head[place], head[:1] + head[-1:], rng)
            body = objects_file({0: head + tail}) if is_tape else stream(head[0], head[1], tail)
            if not is_tape and rng.random() < 0.2:
                body = body[:rng.randrange(len(body) + 1)] if rng.random() < 0.7 else body + b"\0"
            case = {"name": "random-%s-%d" % (seed, number), "kind": "tape" if is_tape else "stream", "key": key.hex(), "partition": 0,
                    "file": os.path.join(os.path.abspath(folder), "%d.%s" % (number, "objects" if is_tape else "stream"))}
            with open(case["file"], "wb") as file:
                file.write(body)
            _, case["salvage"], end, error = read(case, scratch, "--keep-going")
            assert not error, (case, error)
            case["end"] = {"final verified": "final", "end not proven": "not proven"}[end[0]] if end else None
            cases.append(case)
    with open(os.path.join(folder, "cases.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
