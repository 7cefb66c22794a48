# Runs in `python3 -I -B` with an empty environment. Reads a task as JSON from stdin: mode, code, test, token, limits.
# Limits come first, then a hook that refuses what a unit test has no business with, then the code.
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


def guard(folder):
    import os
    refused = (
        "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.killpg",
        "os.chdir", "os.chroot", "os.setxattr", "pty.spawn", "subprocess.Popen", "ctypes.", "syslog.", "winreg.",
        "signal.pthread_kill", "resource.setrlimit", "resource.prlimit", "ftplib.", "smtplib.", "urllib.Request",
    )
    modules = {"ctypes", "_ctypes", "cffi", "_cffi_backend", "_testcapi", "_testinternalcapi"}
    changes = (
        "os.chmod", "os.chown", "os.chflags", "os.link", "os.symlink", "os.mkdir", "os.remove", "os.rename", "os.rmdir",
        "os.truncate", "os.utime", "os.lchmod", "os.removexattr", "shutil.", "tempfile.",
    )
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    real, join, sep, text = os.path.realpath, os.path.join, os.sep, os.fsdecode
    inside = [False]
    # AF_UNIX, as the class and as its default of a wrapped descriptor
    local = (1, -1)
    try:
        # the one way to a process that tells no hook
        import _posixsubprocess
        def fork_exec(*args):
            raise PermissionError("a further process is not allowed here")
        _posixsubprocess.fork_exec = fork_exec
    except ImportError:
        pass

    def within(path):
        if isinstance(path, int):
            return True
        path = real(join(folder, text(path)))
        return path == folder or path.startswith(folder + sep)

    def hook(event, args):
        if inside[0]:
            return
        inside[0] = True
        try:
            if event.startswith(refused):
                raise PermissionError(event + " is not allowed here")
            # a pair of local sockets is what an event loop wakes itself with
            if event.startswith("socket.") and (event != "socket.__new__" or int(args[1]) not in local):
                raise PermissionError(event + " is not allowed here")
            if event == "import" and args[0].split(".")[0] in modules:
                raise PermissionError("the module " + args[0] + " is not allowed here")
            if event == "open":
                path, mode, flags = args
                writes = isinstance(flags, int) and flags & writing or isinstance(mode, str) and set(mode) & set("wax+")
                if writes and not within(path):
                    raise PermissionError("writing outside the folder of the test is not allowed here")
            elif event.startswith(changes):
                for path in args:
                    if isinstance(path, (str, bytes)) and not within(path):
                        raise PermissionError(event + " outside the folder of the test is not allowed here")
        finally:
            inside[0] = False

    sys.addaudithook(hook)


def main():
    import os
    # taken before the code can change them
    write, die, token, size = os.write, os._exit, task.pop("token").encode(), task["reason_chars"]
    compile_only, code, test = task["mode"] == "compile", task["code"], task["test"]

    def tell(text):
        write(2, text.encode("utf-8", "replace")[:size])
        die(1)

    try:
        program = compile(code, "<output>", "exec", dont_inherit=True)
    except BaseException as error:
        tell(type(error).__name__ + ": " + str(error))
    if not compile_only:
        try:
            import signal
            signal.setitimer(signal.ITIMER_REAL, task["seconds"])
        except (ImportError, AttributeError):
            pass
        guard(os.path.realpath(os.getcwd()))
        space = {"__name__": "__main__"}
        try:
            exec(program, space)
            exec(compile(test, "<test>", "exec", dont_inherit=True), space)
        except BaseException as error:
            try:
                text = str(error)
            except BaseException:
                text = ""
            tell(type(error).__name__ + (": " + text if text else ""))
    write(1, b"\n" + token)
    die(0)


main()
