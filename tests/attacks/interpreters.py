# What a program can try that has every system call at hand. @NAMES@ are filled in by interpreters.rs.
import ctypes
import os
import signal
import socket
import struct
import time

VICTIM = int("@VICTIM@")
OUTSIDE = "@OUTSIDE@"
MARK = b"@MARK@"
libc = ctypes.CDLL(None, use_errno=True)
# Numbers for calls that have no function.
AMD, ARM = "x86_64", "aarch64"
NUMBERS = {
    "open_by_handle_at": {AMD: 304, ARM: 265},
    "perf_event_open": {AMD: 298, ARM: 241},
    "add_key": {AMD: 248, ARM: 217},
    "keyctl": {AMD: 250, ARM: 219},
    "bpf": {AMD: 321, ARM: 280},
    "userfaultfd": {AMD: 323, ARM: 282},
    "kexec_load": {AMD: 246, ARM: 104},
    "init_module": {AMD: 175, ARM: 105},
    "pivot_root": {AMD: 155, ARM: 41},
    "io_uring_setup": {AMD: 425, ARM: 425},
    "open_tree": {AMD: 428, ARM: 428},
    "move_mount": {AMD: 429, ARM: 429},
    "fsopen": {AMD: 430, ARM: 430},
    "clone3": {AMD: 435, ARM: 435},
    "openat2": {AMD: 437, ARM: 437},
    "pidfd_getfd": {AMD: 438, ARM: 438},
    "mount_setattr": {AMD: 442, ARM: 442},
}


def call(name, *arguments):
    number = NUMBERS[name].get(os.uname().machine)
    if number is None:
        return -1
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])


def each(what, act):
    """In a process of its own: some calls end whoever makes them."""
    print("TRY", what, flush=True)
    if os.fork() == 0:
        try:
            found = act()
            if found:
                print("SEEN", what, str(found)[:200], flush=True)
        except Exception:
            pass
        os._exit(0)
    try:
        os.wait()
    except OSError:
        pass


def read(path):
    with open(path, "rb") as file:
        return file.read(100000) or None


def write(path):
    with open(path, "w") as file:
        return file.write("planted")


def did(result):
    return result is not None and result >= 0


def openat2(path, resolve):
    how = ctypes.create_string_buffer(struct.pack("QQQ", 0, 0, resolve))
    fd = call("openat2", -100, path.encode(), how, 24)
    return fd >= 0 and os.read(fd, 1000)


def foreign(pid):
    into = ctypes.create_string_buffer(4096)
    local = (ctypes.c_ulong * 2)(ctypes.addressof(into), 4096)
    for line in open("/proc/%d/maps" % pid):
        start = int(line.split("-")[0], 16)
        remote = (ctypes.c_ulong * 2)(start, 4096)
        if libc.process_vm_readv(pid, local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), ctypes.c_ulong(0)) > 0:
            return True
    return False


def handle():
    # The root of the file system below, by the number that most have for it.
    mount = os.open("/", os.O_RDONLY)
    for inode in (2, 64, 96, 128, 256):
        for kind, bytes_ in ((1, struct.pack("II", inode, 0)), (0x81, struct.pack("QI", inode, 0))):
            given = ctypes.create_string_buffer(struct.pack("Ii", len(bytes_), kind) + bytes_)
            if call("open_by_handle_at", mount, given, os.O_RDONLY) >= 0:
                return True
    return False


def connect(family, kind, address):
    with socket.socket(family, kind) as peer:
        peer.settimeout(2)
        peer.connect(address)
        peer.send(b"reached")
        return True


def made(family, kind, protocol=0):
    with socket.socket(family, kind, protocol):
        return True


# What may be read is, so that silence means something.
each("control", lambda: read("/workspace/meter/fees.py"))
each("control", lambda: openat2("/workspace/meter/fees.py", 0))
for path in [OUTSIDE + "/.ssh/id_rsa", "/proc/1/root" + OUTSIDE + "/.ssh/id_rsa", "/proc/self/root" + OUTSIDE + "/.ssh/id_rsa",
             "/proc/%d/environ" % VICTIM, "/proc/%d/mem" % VICTIM, "/proc/%d/cwd/.ssh/id_rsa" % VICTIM, "/proc/%d/root%s/.ssh/id_rsa" % (VICTIM, OUTSIDE),
             "/proc/1/mem", "/proc/kcore", "/proc/kmsg", "/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/vda", "/etc/shadow"]:
    each("read " + path, lambda: read(path))
    each("openat2 " + path, lambda: openat2(path, 0))
for path in [OUTSIDE + "/planted", "/usr/bin/planted-@MARK@", "/etc/planted-@MARK@", "/planted-@MARK@", "/dev/planted-@MARK@", "/proc/sys/kernel/core_pattern",
             "/proc/sysrq-trigger", "/proc/1/oom_score_adj", "/proc/self/uid_map", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs"]:
    each("write " + path, lambda: write(path))
for link in [OUTSIDE, "/proc/1/root", "/"]:
    each("link " + link, lambda: os.symlink(link, "/workspace/link") or read("/workspace/link/.ssh/id_rsa") or read("/workspace/link" + OUTSIDE + "/.ssh/id_rsa"))

PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
for pid in (1, os.getpid(), VICTIM):
    each("attach %d" % pid, lambda: did(libc.ptrace(PTRACE_ATTACH, pid, 0, 0)))
    each("seize %d" % pid, lambda: did(libc.ptrace(PTRACE_SEIZE, pid, 0, 0)))
for pid in (1, VICTIM):
    each("memory of %d" % pid, lambda: foreign(pid))
    each("descriptors of %d" % pid, lambda: did(call("pidfd_getfd", os.pidfd_open(pid), 0, 0)))
# Process 1 is init: were it to hear this, all would end here.
each("stop init", lambda: os.kill(1, signal.SIGSTOP))
each("kill init", lambda: os.kill(1, signal.SIGKILL))
each("kill the victim", lambda: os.kill(VICTIM, signal.SIGKILL) is None)

NEWUSER, NEWNS, NEWNET = 0x10000000, 0x00020000, 0x40000000
for name, flags in [("user", NEWUSER), ("mount", NEWNS), ("both", NEWUSER | NEWNS), ("net", NEWUSER | NEWNET)]:
    each("unshare " + name, lambda: did(libc.unshare(flags)))
    each("clone3 " + name, lambda: did(call("clone3", ctypes.create_string_buffer(struct.pack("Q", flags) + bytes(80)), 88)))
for kind in ("mnt", "net", "user", "pid"):
    each("setns " + kind, lambda: did(libc.setns(os.open("/proc/1/ns/" + kind, os.O_RDONLY), 0)))
for what, act in [
    ("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)),
    ("bind", lambda: libc.mount(b"/proc/1/root", b"/tmp", None, 4096, None)),
    ("remount", lambda: libc.mount(None, b"/", None, 32 | 4096, None)),
    ("umount", lambda: libc.umount2(b"/proc", 2)),
    ("chroot", lambda: libc.chroot(b"/proc/1/root")),
    ("pivot_root", lambda: call("pivot_root", b"/tmp", b"/tmp")),
    ("open_tree", lambda: call("open_tree", -100, b"/", 1)),
    ("fsopen", lambda: call("fsopen", b"proc", 0)),
    ("move_mount", lambda: call("move_mount", -100, b"/tmp", -100, b"/usr", 0)),
    ("mount_setattr", lambda: call("mount_setattr", -100, b"/", 0, ctypes.create_string_buffer(struct.pack("QQQQ", 0, 1, 0, 0)), 32)),
    ("perf_event_open", lambda: call("perf_event_open", ctypes.create_string_buffer(struct.pack("II", 1, 112) + bytes(104)), 0, -1, -1, 0)),
    ("bpf", lambda: call("bpf", 0, ctypes.create_string_buffer(struct.pack("IIII", 2, 4, 4, 1) + bytes(112)), 128)),
    ("userfaultfd", lambda: call("userfaultfd", 0)),
    ("io_uring_setup", lambda: call("io_uring_setup", 4, ctypes.create_string_buffer(120))),
    ("add_key", lambda: call("add_key", b"user", MARK, b"x", 1, -3)),
    ("keyctl", lambda: call("keyctl", 0, -3, 1)),
    ("kexec_load", lambda: call("kexec_load", 0, 0, None, 0)),
    ("init_module", lambda: call("init_module", b"x", 1, b"")),
    ("handle", lambda: 0 if handle() else -1),
    ("personality", lambda: libc.personality(0x0040000)),
    ("swapon", lambda: libc.swapon(b"/workspace/meter/fees.py", 0)),
    ("settime", lambda: libc.clock_settime(0, ctypes.create_string_buffer(16))),
    ("sethostname", lambda: libc.sethostname(b"x", 1)),
    ("setuid", lambda: libc.setuid(0)),
]:
    each(what, lambda: did(act()))

PORT = int("@PORT@")
for what, act in [
    ("tcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", PORT))),
    ("tcp mapped", lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::ffff:127.0.0.1", PORT))),
    ("abstract", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, b"\0" + MARK)),
    ("path", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, OUTSIDE + "/socket")),
    ("raw", lambda: made(socket.AF_INET, socket.SOCK_RAW, 1)),
    ("packet", lambda: made(socket.AF_PACKET, socket.SOCK_RAW)),
    ("vsock", lambda: made(40, socket.SOCK_STREAM)),
    ("crypto", lambda: made(38, socket.SOCK_SEQPACKET)),
    ("netlink audit", lambda: made(socket.AF_NETLINK, socket.SOCK_RAW, 9)),
]:
    each("socket " + what, act)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
    try:
        peer.sendto(b"reached", ("127.0.0.1", int("@UDP@")))
    except OSError:
        pass

# Last, all that it can be given of processes: deaf, in sessions of their own, and without a descriptor.
libc.prctl(15, MARK, 0, 0, 0)
made_ = 0
while True:
    try:
        if os.fork() == 0:
            os.setsid()
            for number in range(1, 65):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            os.closerange(0, 64)
            while True:
                time.sleep(100)
        made_ += 1
    except OSError:
        break
    if made_ > 100000:
        print("SEEN no end of processes", flush=True)
        break
print("MADE", made_, "DONE", flush=True)
