# Runs in `python3 -I -B` with an empty environment and, as its arguments, the files and folders that may be read. Reads
# a task as JSON from stdin: mode, code, test, token, limits. Limits come first, then a hook that refuses what a unit test
# has no business with, then the code.
import sys, json

task = json.loads(sys.stdin.buffer.read())
try:
    import resource
    def limit(what, value):
        kind = getattr(resource, what, None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
    limit("RLIMIT_CORE", 0)
    limit("RLIMIT_CPU", task["cpu_seconds"])
    limit("RLIMIT_AS", task["memory_bytes"])
    limit("RLIMIT_FSIZE", task["file_bytes"])
    limit("RLIMIT_NOFILE", task["open_files"])
    limit("RLIMIT_NPROC", 0)
except ImportError:
    pass


def guard(folder, readable):
    import os
    # taken before the code can change them
    is_a, number, string, raw, letters, refuse = isinstance, int, str, bytes, set, PermissionError
    refused = (
        "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.killpg",
        "os.chdir", "os.chroot", "os.setxattr", "pty.spawn", "subprocess.Popen", "ctypes.", "syslog.", "winreg.",
        "signal.pthread_kill", "resource.setrlimit", "resource.prlimit", "ftplib.", "smtplib.", "urllib.Request",
        "gc.get_", "sys.settrace", "sys.setprofile", "sys.monitoring.", "sqlite3.enable_load", "sqlite3.load_",
    )
    modules = {"ctypes", "_ctypes", "cffi", "_cffi_backend", "_testcapi", "_testinternalcapi", "_gdbm", "_dbm"}
    listings = ("os.listdir", "os.scandir", "os.getxattr", "os.listxattr")
    changes = (
        "os.chmod", "os.chown", "os.chflags", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
        "os.truncate", "os.utime", "os.lchmod", "os.removexattr", "shutil.", "tempfile.",
    )
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    real, join, sep, text = os.path.realpath, os.path.join, os.sep, os.fsdecode
    # AF_UNIX, as the class and as its default of a wrapped descriptor
    local = (1, -1)
    try:
        # the one way to a process that tells no hook
        import _posixsubprocess
        def fork_exec(*args):
            raise refuse("a further process is not allowed here")
        _posixsubprocess.fork_exec = fork_exec
    except ImportError:
        pass

    def within(path, places):
        if path is None or is_a(path, number):
            return True
        path = real(join(folder, text(path)))
        for place in places:
            if path == place or path.startswith(place + sep):
                return True
        return False

    own, known = (folder,), (folder, *readable)

    def hook(event, args):
        if event.startswith(refused):
            raise refuse(event + " is not allowed here")
        # a pair of local sockets is what an event loop wakes itself with
        if event.startswith("socket.") and (event != "socket.__new__" or number(args[1]) not in local):
            raise refuse(event + " is not allowed here")
        if event == "import" and args[0].split(".")[0] in modules:
            raise refuse("the module " + args[0] + " is not allowed here")
        if event == "open":
            path, mode, flags = args
            writes = is_a(flags, number) and flags & writing or is_a(mode, string) and letters(mode) & letters("wax+")
            if writes and not within(path, own):
                raise refuse("writing outside the folder of the test is not allowed here")
            if not within(path, known):
                raise refuse("reading outside the folder of the test is not allowed here")
        elif event in listings or event == "sqlite3.connect" and args[0] != ":memory:":
            if not within(args[0], known):
                raise refuse(event + " outside the folder of the test is not allowed here")
        elif event.startswith(changes):
            for path in args:
                if is_a(path, (string, raw)) and not within(path, own):
                    raise refuse(event + " outside the folder of the test is not allowed here")

    sys.addaudithook(hook)


def main():
    import os
    # taken before the code can change them
    write, die, size = os.write, os._exit, task["reason_chars"]
    run, compile_only, code, test = exec, task["mode"] == "compile", task["code"], task["test"]

    def tell(error):
        try:
            text = str(error)
        except BaseException:
            text = ""
        text = type(error).__name__ + (": " + text if text else "")
        write(2, text.encode("utf-8", "replace")[:size])
        die(1)

    def work():
        try:
            program = compile(code, "<output>", "exec", dont_inherit=True)
            if compile_only:
                return b""
            asked = compile(test, "<test>", "exec", dont_inherit=True)
        except BaseException as error:
            return tell(error)
        try:
            import signal
            signal.setitimer(signal.ITIMER_REAL, task["seconds"])
        except (ImportError, AttributeError):
            pass
        guard(os.path.realpath(os.getcwd()), sys.argv[1:])
        space = {"__name__": "__main__"}
        try:
            # what is run next is held by the loop alone, which no frame shows
            for _ in map(run, (program, asked), (space, space)):
                pass
        except BaseException as error:
            # nothing: code that has put something else in place of what tells and ends gains nothing by it
            return tell(error)
        return b""

    # the token lies on the interpreter's stack meanwhile: code that looks through the frames below its own finds it in
    # none of them
    write(1, b"\n" + task.pop("token").encode() + work())
    die(0)


main()
