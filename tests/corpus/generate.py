#!/usr/bin/env python3
"""Makes the corpus: `generate.py` writes media/ and cases.json, `generate.py --check` compares them with what stands there.

Needs the packages of docs/format/requirements.txt at those versions (another zstd may compress to other bytes).
"""
import json
import os
import sys

import cases_damage
import cases_good
import cases_hidden
import cases_stream
from tape import Corpus

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    corpus = Corpus()
    for part in (cases_good, cases_damage, cases_hidden, cases_stream):
        part.add(corpus)
    files = {os.path.join("media", name): body for name, body in corpus.files.items()}
    files["cases.json"] = (json.dumps(corpus.cases, indent=1) + "\n").encode()
    if "--check" in sys.argv[1:]:
        return check(files)
    os.makedirs(os.path.join(HERE, "media"), exist_ok=True)
    for name, body in files.items():
        with open(os.path.join(HERE, name), "wb") as file:
            file.write(body)
    print("%d cases, %d files, %d bytes" % (len(corpus.cases), len(corpus.files), sum(map(len, files.values()))))
    return 0


def check(files):
    """0 when the corpus that stands here is exactly the one that the sources make."""
    bad = []
    for name, body in files.items():
        try:
            with open(os.path.join(HERE, name), "rb") as file:
                if file.read() != body:
                    bad.append(name + " differs")
        except FileNotFoundError:
            bad.append(name + " is missing")
    bad += ["media/%s is not made by any case" % name for name in os.listdir(os.path.join(HERE, "media"))
            if os.path.join("media", name) not in files]
    print("\n".join(bad) or "%d files are as generated" % len(files))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
