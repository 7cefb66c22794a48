# Runs in `python3 -I -B -c` with the prologue as its argument, and becomes the Python that runs that. Before, where the
# kernel has Landlock, it gives up every file but the test's folder and what Python itself is made of, for good and for
# whatever comes of this process. What may be read is handed on, for the hook of the prologue.
import os, sys


def libraries():
    # the folders that modules come from, not the whole of a prefix, which may be /usr
    real = os.path.realpath
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    below = tuple(real(prefix).rstrip(os.sep) + os.sep for prefix in prefixes)
    found = [path for path in map(real, filter(None, sys.path)) if path.startswith(below)]
    return found + ["/usr/share/zoneinfo", "/etc/localtime", "/dev/null", "/dev/urandom", "/dev/zero"]


def lock(folder, readable):
    try:
        import ctypes
        libc = ctypes.CDLL(None, use_errno=True)
        call = libc.syscall
        call.restype = ctypes.c_long
    except (ImportError, OSError, AttributeError):
        return
    create, add, restrict = 444, 445, 446
    no_new_privileges, path_beneath = 38, 1
    execute, write, read, read_dir, refer, truncate = 1, 2, 4, 8, 1 << 13, 1 << 14
    version = call(create, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    handled = refer - 1
    handled |= refer if version >= 2 else 0
    handled |= truncate if version >= 3 else 0
    # what the interpreter is started with, and the shared libraries of its modules
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"]
    system += [sys.executable, os.path.join(sys.base_prefix, "lib"), os.path.join(sys.prefix, "pyvenv.cfg")]
    rules = [(folder, handled & ~execute)]
    rules += [(path, read | read_dir) for path in readable]
    rules += [(path, read | read_dir | execute) for path in system]
    attributes = (ctypes.c_uint64 * 1)(handled)
    ruleset = call(create, ctypes.byref(attributes), ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]

    for path, allowed in rules:
        try:
            parent = os.open(os.path.realpath(path), os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            allowed &= execute | write | read | truncate
        call(add, ruleset, path_beneath, ctypes.byref(Beneath(allowed & handled, parent)), 0)
        os.close(parent)
    libc.prctl(no_new_privileges, 1, 0, 0, 0)
    call(restrict, ruleset, 0)
    os.close(ruleset)


def launch():
    prologue, readable = sys.argv[1], libraries()
    if sys.platform.startswith("linux"):
        lock(os.path.realpath(os.getcwd()), readable)
        os.execv(sys.executable, [sys.executable, "-I", "-B", "-c", prologue, *readable])
    sys.argv[1:] = readable
    exec(compile(prologue, "<prologue>", "exec"), {"__name__": "__main__"})


launch()
