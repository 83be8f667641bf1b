#!/usr/bin/env python3
"""Runs docs/format/reader.py over the corpus and compares what it prints with cases.json, with and without --keep-going."""
import contextlib
import io
import json
import os
import re
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "docs", "format"))

import reader  # noqa: E402  (the path comes first)

END = {"not proven": ["end not proven"], "final": ["final verified"], None: [],
       "proven": ["end at the catalogue's end of data", "end past the catalogue's end of data"]}


def read(case, folder, *options):
    """Exit code and lines, refusals in the short form of cases.json, last line apart."""
    key = os.path.join(folder, "key")
    with open(key, "w") as file:
        file.write(case["key"] + "\n")
    arguments = ["--key-file", key, "--partition", str(case.get("partition", 0)), *options]
    if "sessions" in case:
        with open(os.path.join(folder, "sessions"), "w") as file:
            json.dump(case["sessions"], file)
        arguments += ["--sessions", file.name]
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = reader.main(arguments + [os.path.join(HERE, "media", case["file"])])
    lines = [re.sub(r"^refused: (\S+) at (?:object )?(\w+): .*", r"refused \1 \2", line) for line in out.getvalue().splitlines()]
    end = [line for line in lines if line.startswith(("end ", "final "))]
    return code, [line for line in lines if line not in end], end, error.getvalue()


def check(case, folder):
    """What is wrong, as a list of texts."""
    refused = ["refused %(name)s %(at)s" % case["refusal"]] if case["refusal"] else []
    wanted = (2 if refused else 0, case["expected"] + refused, [] if refused else END[case["end"]])
    salvage = (wanted[0], case["salvage"], END[case["end"]])
    bad = []
    for options, (code, lines, end) in (((), wanted), (("--keep-going",), salvage)):
        got_code, got, got_end, error = read(case, folder, *options)
        if (got_code, got) != (code, lines) or (got_end[:1] != end[:1] and not set(got_end) & set(end)) or len(got_end) > 1:
            bad.append("%s %s\n  wanted %d %s %s\n  got    %d %s %s %s" % (
                case["name"], " ".join(options), code, lines, end, got_code, got, got_end, error))
    return bad


def main():
    with open(os.path.join(HERE, "cases.json"), encoding="utf-8") as file:
        cases = json.load(file)
    with tempfile.TemporaryDirectory() as folder:
        bad = [text for case in cases if len(sys.argv) < 2 or sys.argv[1] in case["name"] for text in check(case, folder)]
    print("\n".join(bad + ["%d cases, %d differences" % (len(cases), len(bad))]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
