"""Notes which lines of the project are executed from here on, and tells them when the interpreter ends."""

import atexit
import os
import sys
import threading

_ROOT = os.path.realpath(os.getcwd()) + os.sep
_seen = {}


def _local(frame, event, _arg):
    if event == "line":
        _seen[frame.f_code.co_filename].add(frame.f_lineno)
    return _local


def _trace(frame, _event, _arg):
    name = frame.f_code.co_filename
    if name not in _seen:
        ours = os.path.realpath(name).startswith(_ROOT) and name != __file__
        _seen[name] = set() if ours else None
    return None if _seen[name] is None else _local


def _tell():
    sys.settrace(None)
    for name, lines in sorted(_seen.items()):
        ranges = []
        for line in sorted(lines or ()):
            if ranges and ranges[-1][1] == line - 1:
                ranges[-1][1] = line
            else:
                ranges.append([line, line])
        if not ranges:
            continue
        path = os.path.realpath(name)[len(_ROOT):]
        print("moat-executed", path, ",".join("%d-%d" % (a, b) for a, b in ranges), file=sys.stderr)


atexit.register(_tell)
threading.settrace(_trace)
sys.settrace(_trace)
