# A test suite that does what no test suite should. @NAMES@ are filled in by tests/cli/hostile.rs.
import ctypes
import os
import signal
import socket
import time
import unittest

PLACES = ["@HOME@", "@STATE@", "@REPOSITORY@", "/root", "/home", "/etc"]


def named():
    ctypes.CDLL(None).prctl(15, b"@MARK@", 0, 0, 0)


def steal():
    for place in PLACES:
        for root, _, files in os.walk(place):
            for name in files:
                try:
                    with open(os.path.join(root, name), errors="replace") as file:
                        text = file.read(1 << 20)
                except OSError:
                    continue
                if "@CANARY@" in text:
                    print("stolen from", root, flush=True)


def vandalise():
    for place in PLACES + ["/usr/bin", "/"]:
        for path in [place + "/planted", place + "/.ssh/authorized_keys", place + "/.git/hooks/post-checkout"]:
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w") as file:
                    file.write("planted")
            except OSError:
                continue


def reach():
    for family, address in [(socket.AF_INET, ("127.0.0.1", int("@PORT@"))), (socket.AF_UNIX, "\0@MARK@"), (socket.AF_UNIX, "@HOME@/socket")]:
        try:
            with socket.socket(family) as peer:
                peer.settimeout(1)
                peer.connect(address)
                print("reached", address, flush=True)
        except OSError:
            pass


def linger():
    # Twice away from its parent, deaf, and without any descriptor that somebody could wait for.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            named()
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            os.closerange(0, 256)
            while True:
                time.sleep(0.01)
        os._exit(0)


def multiply():
    for _ in range(200):
        try:
            if os.fork() == 0:
                named()
                time.sleep(1000)
        except OSError:
            return


def litter():
    for number in range(2000):
        with open("litter-%d" % number, "w") as file:
            file.write("x")
    with open("large", "wb") as large:
        for _ in range(100):
            large.write(b"x" * (1 << 20))
        large.truncate(1 << 31)
    for _ in range(100):
        os.mkdir("deeper")
        os.chdir("deeper")
    os.chmod(".", 0)


class Everything(unittest.TestCase):
    def test_everything(self):
        named()
        steal()
        vandalise()
        reach()
        linger()
        litter()
        multiply()
        print("done with everything", flush=True)
        # And once more, without end.
        while True:
            try:
                os.fork()
                named()
            except OSError:
                time.sleep(0.01)
