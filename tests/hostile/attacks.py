"""Attacks of a training's code on everything around it. Each is a piece of Python that runs behind the fence.

`TRAINER` runs each of them in a process of its own and prints what became of it: `refused` when the system
said no, `done` when nothing stopped it. What an attack names is outside: `VICTIM` is a process of the same
user, `FILE` a file of the user's that training may read, `OUTSIDE` a folder that it may not enter, `GROUP`
the control group that it is in.
"""

from __future__ import annotations

from loop.training.programs import calls

REFUSED = {
    # memory that other programs share
    "shared memory of System V": "call('shmget', 0x0A71F1, 4096, 0o1666)",
    "semaphores of System V": "call('semget', 0x0A71F1, 1, 0o1666)",
    "messages of System V": "call('msgget', 0x0A71F1, 0o1666)",
    "message queues of POSIX": "call('mq_open', b'left', 0o102, 0o666, 0)",
    "secret memory": "call('memfd_secret', 0)",
    # other processes
    "renices another process": "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)",
    "renices a group": "os.setpriority(os.PRIO_PGRP, os.getpgid(VICTIM), 19)",
    "renices everything of the user": "os.setpriority(os.PRIO_USER, 0, 19)",
    "takes the processor from another process": (
        "os.sched_setscheduler(VICTIM, os.SCHED_IDLE, os.sched_param(0))"
    ),
    "sets attributes of another's schedule": (
        "import struct; call('sched_setattr', VICTIM, struct.pack('IIQiIQQQ', 48, 5, 0, 19, 0, 0, 0, 0), 0)"
    ),
    "takes the disk from another process": "call('ioprio_set', 1, VICTIM, 3 << 13)",
    "limits another process": "resource.prlimit(VICTIM, resource.RLIMIT_NOFILE, (4, 4))",
    "signals another process": "os.kill(VICTIM, signal.SIGUSR2)",
    "signals the group of another process": "os.killpg(os.getpgid(VICTIM), signal.SIGUSR2)",
    "signals by a descriptor": "signal.pidfd_send_signal(os.pidfd_open(VICTIM), signal.SIGUSR2)",
    "signals the supervisor's session": "os.kill(SUPERVISOR, signal.SIGSTOP)",
    "queues a signal": (
        "call('rt_sigqueueinfo', VICTIM, int(signal.SIGUSR2), ctypes.create_string_buffer(128))"
    ),
    "traces another process": "call('ptrace', 16, VICTIM, 0, 0)",
    "seizes another process": "call('ptrace', 0x4206, VICTIM, 0, 0)",
    "reads another's memory": "call('process_vm_readv', VICTIM, 0, 0, 0, 0, 0)",
    "writes another's memory": "call('process_vm_writev', VICTIM, 0, 0, 0, 0, 0)",
    "opens another's memory": "open(f'/proc/{VICTIM}/mem', 'r+b')",
    "reads another's environment": "open(f'/proc/{VICTIM}/environ', 'rb').read()",
    "reads another's map": "open(f'/proc/{VICTIM}/maps').read()",
    "enters another's folder": "os.listdir(f'/proc/{VICTIM}/cwd/')",
    "takes another's descriptor": "call('pidfd_getfd', os.pidfd_open(VICTIM), 0, 0)",
    "compares descriptors": "call('kcmp', os.getpid(), VICTIM, 0, 0, 0)",
    "advises another's memory away": "call('process_madvise', os.pidfd_open(VICTIM), 0, 0, 4, 0)",
    "reaps another's memory": "call('process_mrelease', os.pidfd_open(VICTIM), 0)",
    "offers another to the OOM killer": "open(f'/proc/{VICTIM}/oom_score_adj', 'w').write('1000')",
    "moves another process to other memory": "call('migrate_pages', VICTIM, 8, b'1' * 8, b'1' * 8)",
    "asks for another's locks": (
        "call('get_robust_list', VICTIM, ctypes.create_string_buffer(8), ctypes.create_string_buffer(8))"
    ),
    "moves another's pages": "call('move_pages', VICTIM, 1, b'0' * 8, 0, b'0' * 4, 0)",
    # its own place among the others
    "takes a real-time schedule": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))",
    "takes a schedule with deadlines": (
        "call('sched_setattr', 0, struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 10**6, 10**7, 10**7), 0)"
    ),
    "goes before all others": "os.setpriority(os.PRIO_PROCESS, 0, -20)",
    "takes the disk first": "call('ioprio_set', 1, 0, 1 << 13)",
    "saves itself from the OOM killer": (
        "os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-1000')"
    ),
    "makes its environment endless": "call('prctl', 35, 14, bytes(104), 104, 0)",
    "joins other groups": "os.setgroups([1000])",
    "raises its limits": (
        "most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] + 1\n"
        "call('prlimit64', 0, int(resource.RLIMIT_NOFILE), struct.pack('QQ', most, most), 0)"
    ),
    # the kernel
    "reads the kernel's log by its call": "call('syslog', 3, ctypes.create_string_buffer(64), 64)",
    "clones into a namespace by the newer call": (
        "call('clone3', struct.pack('Q' * 8, 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64)"
    ),
    "sets a quota": "call('quotactl', 0x800002 << 8, b'/dev/vda', 0, 0)",
    "loads another kernel": "call('kexec_load', 0, 0, 0, 0)",
    "changes its root by a pivot": "call('pivot_root', b'.', b'.')",
    "hangs up the terminal": "call('vhangup')",
    "goes through io_uring": "call('io_uring_setup', 8, ctypes.create_string_buffer(200))",
    "handles page faults": "call('userfaultfd', 1)",
    "counts events": "call('perf_event_open', ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "loads a BPF program": "call('bpf', 0, ctypes.create_string_buffer(128), 128)",
    "adds a key": "call('add_key', b'user', b'left', b'x', 1, -4)",
    "reads a key": "call('keyctl', 6, -4, 0, 0, 0)",
    "makes a user namespace": "call('unshare', 0x10000000)",
    "makes a mount namespace": "call('unshare', 0x20000)",
    "clones into a namespace": "call('clone', 0x10000000 | 17, 0, 0, 0, 0)",
    "enters a namespace": "call('setns', os.pidfd_open(VICTIM), 0x40000000)",
    "mounts": "call('mount', b'none', b'.', b'tmpfs', 0, 0)",
    "unmounts": "call('umount2', b'/dev/shm', 2)",
    "opens a tree of mounts": "call('open_tree', -100, b'/', 1)",
    "opens a file system": "call('fsopen', b'tmpfs', 0)",
    "changes its root": "os.chroot('.')",
    "sets the clock": "time.clock_settime(time.CLOCK_REALTIME, 1)",
    "bends the clock": "call('adjtimex', ctypes.create_string_buffer(256))",
    "names the machine": "import socket; socket.sethostname('owned')",
    "loads a module": "call('init_module', b'', 0, b'')",
    "restarts the machine": "call('reboot', 0xfee1dead, 672274793, 0, 0)",
    "switches swap off": "call('swapoff', b'/swap')",
    "keeps accounts": "call('acct', b'left')",
    "changes its personality": "call('personality', 0x0040000)",
    "hides from the supervisor": "call('prctl', 4, 0, 0, 0, 0)",
    # files
    "watches files": "call('inotify_init1', 0)",
    "watches a file system": "call('fanotify_init', 0, 0)",
    "watches a folder by dnotify": "fcntl.fcntl(os.open('/usr', os.O_RDONLY), 1026, 2)",
    "leases a file": "fcntl.fcntl(os.open(FILE, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "sets attributes of a file": (
        "fcntl.ioctl(os.open(FILE, os.O_RDONLY), 0x40086602, struct.pack('q', 0x40))"
    ),
    "seals a file for ever": "fcntl.ioctl(os.open(FILE, os.O_RDONLY), 0x40806685, b'\1' + bytes(127))",
    "encrypts a folder": "fcntl.ioctl(os.open('/usr', os.O_RDONLY), 0x800C6613, bytes(12))",
    "makes a snapshot": "fcntl.ioctl(os.open('/usr', os.O_RDONLY), 0x50009401, bytes(1024))",
    "freezes a file system": "fcntl.ioctl(os.open('/usr', os.O_RDONLY), 0xC0045877, bytes(4))",
    "types into a terminal": "fcntl.ioctl(0, 0x5412, b'x')",
    "opens by a handle": "call('open_by_handle_at', -100, ctypes.create_string_buffer(64), 0)",
    "asks for a handle": (
        "call('name_to_handle_at', -100, FILE.encode(), ctypes.create_string_buffer(64), 0, 0)"
    ),
    "makes a setuid program": "open('su', 'w').close(); os.chmod('su', 0o4755)",
    "makes it by its descriptor": "os.fchmod(os.open('su2', os.O_CREAT | os.O_WRONLY), 0o4755)",
    "opens a setuid program": "os.open('su3', os.O_CREAT | os.O_WRONLY, 0o4755)",
    "opens a setgid file without a name": "os.open('.', os.O_TMPFILE | os.O_WRONLY, 0o2755)",
    "makes a setuid node": "os.mknod('su4', 0o104755)",
    "makes a device": "os.mknod('disk', 0o60644, os.makedev(8, 0))",
    "gives a file away": "os.chown('.', 65533, 65533)",
    "marks a file": "os.setxattr('.', 'user.left', b'x')",
    "marks an opened file": "os.setxattr(os.open(FILE, os.O_RDONLY), 'user.left', b'x')",
    "links a file in": "os.link(FILE, 'mine')",
    "links an opened file in": (
        "os.link(f'/proc/self/fd/{os.open(FILE, os.O_RDONLY)}', 'mine2', follow_symlinks=True)"
    ),
    "writes through a link": "os.symlink(FILE, 'to'); open('to', 'a').write('x')",
    "writes through its root": "open(f'/proc/self/root{FILE}', 'a').write('x')",
    "opens its log anew": "open('/proc/self/fd/1', 'r+b')",
    "opens the console": "open('/dev/console', 'r+b')",
    "lists a folder through its own process": "os.listdir(f'/proc/self/root{OUTSIDE}')",
    "makes a file without a name outside": "os.open(OUTSIDE, os.O_TMPFILE | os.O_WRONLY)",
    "writes into the interpreter's packages": "open(os.path.dirname(os.__file__) + '/sitecustomize.py', 'a')",
    "changes a kernel setting": "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/sh')",
    "presses a magic key": "open('/proc/sysrq-trigger', 'w').write('h')",
    "leaves its cgroup": (
        "import glob; open((glob.glob('/sys/fs/cgroup/**/cgroup.procs') + ['/sys/fs/cgroup/x'])[0], 'w')"
    ),
    "moves up in the tree of groups": "open(os.path.dirname(GROUP) + '/cgroup.procs', 'w').write('0')",
    "makes a group in its group": "os.mkdir(GROUP + '/left')",
    "removes its group": "os.rmdir(GROUP)",
    "kills its group": "open(GROUP + '/cgroup.kill', 'w').write('1')",
    "freezes its group": "open(GROUP + '/cgroup.freeze', 'w').write('1')",
    "makes a namespace of groups": "call('unshare', 0x02000000)",
    "clones into a namespace of groups": "call('clone', 0x02000000 | 17, 0, 0, 0, 0)",
    "is born in another group": (
        "call('clone3', struct.pack('Q' * 11, 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 3), 88)"
    ),
    "opens the memory": "open('/dev/mem', 'rb')",
    "opens the way to user faults": "open('/dev/userfaultfd', 'rb')",
    "opens the way to mounts": "open('/dev/fuse', 'rb')",
    "opens the way to machines": "open('/dev/kvm', 'rb')",
    "opens the disk": "open('/dev/vda', 'rb')",
    "opens the pages of a process": "open(f'/proc/{VICTIM}/pagemap', 'rb')",
    "clears another's references": "open(f'/proc/{VICTIM}/clear_refs', 'w').write('1')",
    "reads what another calls": "open(f'/proc/{VICTIM}/syscall').read()",
    "reads another's stack": "open(f'/proc/{VICTIM}/stack').read()",
    "opens another's descriptor": "open(f'/proc/{VICTIM}/fd/1', 'w')",
    "asks what another has open": "os.readlink(f'/proc/{VICTIM}/fd/1')",
    "goes through another's root": "os.listdir(f'/proc/{VICTIM}/root/')",
    "slackens another's timers": "open(f'/proc/{VICTIM}/timerslack_ns', 'w').write('4000000000')",
    "reads the supervisor's orders": "open(f'/proc/{SUPERVISOR}/fd/0', 'rb').read()",
    "reads the supervisor's environment": "open(f'/proc/{SUPERVISOR}/environ', 'rb').read()",
    "frees the supervisor of its limits": "resource.prlimit(SUPERVISOR, resource.RLIMIT_NOFILE, (1, 1))",
    "keeps a descriptor of its supervisor": (
        "left = [fd for fd in map(int, os.listdir('/proc/self/fd')) if fd > 3]\n"
        "if not left: raise PermissionError"
    ),
    "opens the kernel's log": "open('/dev/kmsg', 'rb')",
    "opens a terminal": "open('/dev/ptmx', 'r+b')",
    "opens the terminal of the user": "open('/dev/tty', 'r+b')",
    "takes space behind a file's end": "call('fallocate', 1, 1, 0, 2**30)",
    # sockets
    "asks the kernel by netlink": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "sends raw packets": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)",
    "talks to the hypervisor": "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)",
    "lets the kernel encrypt": "import socket; socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0)",
    "sends to a socket file": "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
    "connects to an abstract socket": "import socket; socket.socket(socket.AF_UNIX).connect(ABSTRACT)",
    "connects to a socket file": "import socket; socket.socket(socket.AF_UNIX).connect(OUTSIDE + '/socket')",
}  # fmt: skip
"""Attacks that the system refuses."""

HARMLESS = {
    "moves another process to one core": "os.sched_setaffinity(VICTIM, {0})",
    "opens a key to others": "os.chmod(FILE, 0o666)",
    "opens a key by its descriptor": "os.fchmod(os.open(FILE, os.O_RDONLY), 0o666)",
    "changes the time of a file": "os.utime(FILE, (1, 1))",
    "signals everybody": "os.kill(-1, signal.SIGUSR2)",
    "lets its files signal another process": (
        "import socket; a, b = socket.socketpair(); fcntl.fcntl(a, fcntl.F_SETOWN, VICTIM)\n"
        "fcntl.fcntl(a, 10, int(signal.SIGUSR2)); fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC); b.send(b'x')"
    ),
    "renames itself to no text": "call('prctl', 15, b'\\xff) R 1', 0, 0, 0)",
    "becomes a parent of orphans": "call('prctl', 36, 1, 0, 0, 0)",
    "lets nobody end it with its parent": "call('prctl', 1, 0, 0, 0, 0)",
    "leaves a mark of a removed file": "open('w', 'w').close(); call('renameat2', -100, b'w', -100, b'v', 4)",
    "locks a file that it may read": "fcntl.flock(os.open(FILE, os.O_RDONLY), fcntl.LOCK_EX)",
    "takes off the end of its log": "fcntl.fcntl(1, fcntl.F_SETFL, 0)",
    "stops waiting for its output": "fcntl.fcntl(1, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)",
    "becomes a child of its supervisor": (
        "if LIBC.syscall(CALLS['clone'], 0x8000 | 17, 0, 0, 0, 0) == 0: os._exit(0)"
    ),
    "says that it is another user": "os.setuid(os.getuid())",
}
"""Attacks that nothing refuses, and that change nothing. tests/hostile/attacked.py looks."""

MACHINES = ("open('/proc/sys", "open('/dev/")
"""Attacks that begin like this need something that not every machine has."""
ATTACKS = {**REFUSED, **HARMLESS}

NUMBERS = {
    "x86_64": {"renameat2": 316, "rt_sigqueueinfo": 129, "get_robust_list": 274, "clone3": 435},
    "aarch64": {"renameat2": 276, "rt_sigqueueinfo": 138, "get_robust_list": 100, "clone3": 435},
}
"""Numbers of system calls that the filter has no name for."""

TRAINER = f"""
import ctypes, fcntl, os, platform, resource, signal, struct, sys, time
CALLS = {{**{calls.CALLS!r}[platform.machine()], **{calls.EVERYWHERE!r}}}
CALLS |= {NUMBERS!r}[platform.machine()]
MACHINES = {MACHINES!r}
SUPERVISOR = os.getppid()
GROUP = TOP + (open('/proc/self/cgroup').read().partition('0::')[2].strip() or '/none')
LIBC = ctypes.CDLL(None, use_errno=True)

def call(name, *words):
    if LIBC.syscall(CALLS[name], *words) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def attack(code):
    signal.alarm(10)
    try:
        exec(code, globals())
    except PermissionError:
        return 'refused'
    except OSError as error:
        if error.errno == 2 and code.startswith(MACHINES):
            return 'refused'
        return 'refused' if error.errno in (18, 38, 95) else f'{{type(error).__name__}} {{error}}'
    except BaseException as error:
        return f'{{type(error).__name__}}: {{error}}'
    return 'done'

print('group:', GROUP)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
for name, code in {ATTACKS!r}.items():
    sys.stdout.flush()
    if os.fork() == 0:
        print(f'{{name}}: {{attack(code)}}', flush=True)
        os._exit(0)
    os.wait()
"""
