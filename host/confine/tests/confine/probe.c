/* What a confined program tries beneath every library. Each line that it prints is something that it got; tests/confine/probe.rs runs it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <termios.h>
#include <unistd.h>

static void refused(const char *name, long result)
{
    if (result != -1 || errno != EPERM)
        printf("%s: %ld %s\n", name, result, result == -1 ? strerror(errno) : "");
}

static void calls(void)
{
    static const struct { const char *name; long number; } table[] = {
        {"pivot_root", SYS_pivot_root}, {"chroot", SYS_chroot}, {"mount", SYS_mount}, {"umount2", SYS_umount2}, {"setns", SYS_setns},
        {"unshare", SYS_unshare}, {"open_tree", 428}, {"move_mount", 429}, {"fsopen", 430}, {"fsconfig", 431}, {"fsmount", 432},
        {"fspick", 433}, {"mount_setattr", 442}, {"open_tree_attr", 467}, {"open_by_handle_at", SYS_open_by_handle_at},
        {"name_to_handle_at", SYS_name_to_handle_at}, {"ptrace", SYS_ptrace}, {"process_vm_readv", SYS_process_vm_readv},
        {"process_vm_writev", SYS_process_vm_writev}, {"pidfd_getfd", 438}, {"kcmp", SYS_kcmp}, {"keyctl", SYS_keyctl},
        {"add_key", SYS_add_key}, {"request_key", SYS_request_key}, {"bpf", SYS_bpf}, {"perf_event_open", SYS_perf_event_open},
        {"userfaultfd", SYS_userfaultfd}, {"io_uring_setup", 425}, {"io_uring_enter", 426}, {"io_uring_register", 427},
        {"init_module", SYS_init_module}, {"finit_module", SYS_finit_module}, {"delete_module", SYS_delete_module},
        {"kexec_load", SYS_kexec_load}, {"kexec_file_load", SYS_kexec_file_load}, {"reboot", SYS_reboot}, {"swapon", SYS_swapon},
        {"swapoff", SYS_swapoff}, {"quotactl", SYS_quotactl}, {"acct", SYS_acct}, {"syslog", SYS_syslog},
        {"settimeofday", SYS_settimeofday}, {"clock_settime", SYS_clock_settime}, {"clock_adjtime", SYS_clock_adjtime},
        {"adjtimex", SYS_adjtimex}, {"personality", SYS_personality}, {"vhangup", SYS_vhangup}, {"fanotify_init", SYS_fanotify_init},
        {"migrate_pages", SYS_migrate_pages}, {"move_pages", SYS_move_pages},
    };
    for (size_t at = 0; at < sizeof table / sizeof *table; at++) {
        errno = 0;
        refused(table[at].name, syscall(table[at].number, 0, 0, 0, 0, 0, 0));
    }
    static const long spaces[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, 0x02000000};
    for (size_t at = 0; at < sizeof spaces / sizeof *spaces; at++) {
        char name[32];
        snprintf(name, sizeof name, "clone %lx", spaces[at]);
        errno = 0;
        long child = syscall(SYS_clone, spaces[at] | 17, 0, 0, 0, 0);
        if (child == 0)
            _exit(0);
        refused(name, child);
    }
    errno = 0;
    if (syscall(435, 0, 0) != -1 || errno != ENOSYS)
        printf("clone3: %s\n", strerror(errno));
    refused("sethostname", sethostname("x", 1));
    for (int signal = 0; signal < 20; signal += 9)
        if (syscall(SYS_kill, 1, signal) == 0 && signal != 0)
            printf("kill 1 with %d\n", signal);
}

static void sockets(int port)
{
    static const int families[] = {AF_NETLINK, AF_PACKET, AF_VSOCK, 38, AF_BLUETOOTH, AF_CAN, 21, 30, AF_KEY, 39, 41, 42, 43, 44, AF_X25, AF_AX25};
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK};
    for (size_t family = 0; family < sizeof families / sizeof *families; family++)
        for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++)
            if (socket(families[family], kinds[kind], 0) >= 0)
                printf("family %d kind %d\n", families[family], kinds[kind]);
    for (int protocol = 0; protocol < 256; protocol++)
        if (socket(AF_INET, SOCK_RAW, protocol) >= 0 || socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, protocol) >= 0)
            printf("raw %d\n", protocol);
    static const char *hosts[] = {"127.0.0.1", "127.1.2.3", "169.254.169.254", "169.254.170.2", "100.100.100.200", "10.0.0.1", "192.168.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0"};
    for (size_t at = 0; at < sizeof hosts / sizeof *hosts; at++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
        inet_pton(AF_INET, hosts[at], &to.sin_addr);
        int one = 1, tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
        setsockopt(udp, SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
        if (connect(tcp, (struct sockaddr *)&to, sizeof to) == 0)
            printf("tcp %s\n", hosts[at]);
        sendto(udp, "probe", 5, 0, (struct sockaddr *)&to, sizeof to);
        close(tcp);
        close(udp);
    }
    static const char *others[] = {"::1", "::ffff:127.0.0.1", "fe80::1", "fd00:ec2::254", "ff02::1"};
    for (size_t at = 0; at < sizeof others / sizeof *others; at++) {
        struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = 1};
        inet_pton(AF_INET6, others[at], &to.sin6_addr);
        int tcp = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), udp = socket(AF_INET6, SOCK_DGRAM, 0);
        if (connect(tcp, (struct sockaddr *)&to, sizeof to) == 0)
            printf("tcp %s\n", others[at]);
        sendto(udp, "probe", 5, 0, (struct sockaddr *)&to, sizeof to);
        close(tcp);
        close(udp);
    }
}

static void descriptors(void)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) != -1)
            printf("descriptor %d\n", fd);
}

/* The file is somebody else's, on a read-only mount. */
static void outside(const char *file)
{
    char other[4096];
    snprintf(other, sizeof other, "%s.moved", file);
    if (chmod(file, 0777) == 0) puts("chmod");
    if (chown(file, 1000, 1000) == 0) puts("chown");
    if (lchown(file, 0, 0) == 0) puts("lchown");
    if (utimensat(AT_FDCWD, file, NULL, 0) == 0) puts("times");
    if (setxattr(file, "user.probe", "x", 1, 0) == 0) puts("attribute");
    if (removexattr(file, "user.kept") == 0) puts("attribute away");
    if (truncate(file, 0) == 0) puts("truncate");
    if (rename(file, other) == 0) puts("rename");
    if (link(file, other) == 0) puts("link beside");
    if (link(file, "/workspace/link") == 0) puts("link away");
    if (rename(file, "/workspace/moved") == 0) puts("rename away");
    if (unlink(file) == 0) puts("unlink");
    int fd = open(file, O_RDONLY);
    int flags = 0;
    if (fd >= 0) {
        if (fchmod(fd, 0777) == 0) puts("fchmod");
        if (futimens(fd, NULL) == 0) puts("futimens");
        if (fsetxattr(fd, "user.probe", "x", 1, 0) == 0) puts("fsetxattr");
        if (ioctl(fd, _IOW('f', 2, long), &flags) == 0) puts("flags");
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (open(path, O_RDWR) >= 0) puts("opened again for writing");
        if (linkat(AT_FDCWD, path, AT_FDCWD, "/workspace/again", AT_SYMLINK_FOLLOW) == 0) puts("linked again");
    }
}

static void terminal(void)
{
    static const char *names[] = {"/dev/tty", "/dev/console", "/dev/tty0", "/dev/tty1", "/dev/pts/0", "/dev/pts/ptmx", "/dev/ptmx"};
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (open(names[at], O_RDWR | O_NOCTTY) >= 0)
            printf("opened %s\n", names[at]);
    for (int fd = 0; fd < 3; fd++) {
        if (isatty(fd))
            printf("terminal %d\n", fd);
        errno = 0;
        refused("TIOCSTI", syscall(SYS_ioctl, fd, TIOCSTI, "x"));
        errno = 0;
        refused("TIOCSTI with more bits", syscall(SYS_ioctl, fd, TIOCSTI | 0x100000000UL, "x"));
        errno = 0;
        refused("TIOCLINUX", syscall(SYS_ioctl, fd, TIOCLINUX, "\3"));
        if (ioctl(fd, TIOCSCTTY, 1) == 0)
            printf("took terminal %d\n", fd);
    }
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "calls")) calls();
    if (!strcmp(what, "descriptors")) descriptors();
    if (!strcmp(what, "sockets")) sockets(atoi(words[2]));
    if (!strcmp(what, "outside")) outside(words[2]);
    if (!strcmp(what, "terminal")) terminal();
#ifdef __x86_64__
    if (!strcmp(what, "int80")) {
        long number = 20;
        __asm__ volatile("int $0x80" : "+a"(number) : : "memory");
        printf("went on: %ld\n", number);
    }
    if (!strcmp(what, "x32")) printf("went on: %ld\n", syscall(0x40000000 + 20, 1, &(struct { void *p; long n; }){"x", 1}, 1));
#endif
    puts("end");
    return 0;
}
