#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]
use super::*;

fn sandbox(millis: u64) -> Option<Sandbox> {
    match Sandbox::find(Duration::from_millis(millis), CodeLimits::default()) {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

#[test]
fn tests_pass_and_fail() {
    let Some(sandbox) = sandbox(5000) else { return };
    let code = "import math\ndef f(x):\n    return math.floor(x) + 1\nprint('noise')";
    assert_eq!(sandbox.test(code, "assert f(1.5) == 2").unwrap(), None);
    let reason = sandbox.test(code, "assert f(1) == 3, 'three'").unwrap();
    assert_eq!(reason.unwrap(), "AssertionError: three");
    let reason = sandbox.test("def f(:", "f()").unwrap().unwrap();
    assert!(reason.starts_with("SyntaxError"), "{reason}");
    assert!(
        sandbox
            .test("", "g()")
            .unwrap()
            .unwrap()
            .contains("NameError")
    );
}

#[test]
fn compiling_runs_nothing() {
    let Some(sandbox) = sandbox(1000) else { return };
    assert_eq!(
        sandbox
            .compile("raise SystemExit(3)\nwhile True: pass")
            .unwrap(),
        None
    );
    assert!(
        sandbox
            .compile("x = = 1")
            .unwrap()
            .unwrap()
            .contains("SyntaxError")
    );
    assert!(sandbox.compile("x = '\0'").unwrap().is_some());
}

/// An exit before the tests is no success.
#[test]
fn leaving_early_fails() {
    let Some(sandbox) = sandbox(5000) else { return };
    for code in [
        "import os; os._exit(0)",
        "raise SystemExit(0)",
        "import sys; sys.exit()",
        "exit()",
    ] {
        assert!(sandbox.test(code, "pass").unwrap().is_some(), "{code}");
    }
}

#[test]
fn what_runs_on_is_killed() {
    let Some(sandbox) = sandbox(300) else { return };
    let started = Instant::now();
    for code in [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
    ] {
        let reason = sandbox.test(code, "pass").unwrap().unwrap();
        assert_eq!(reason, "it ran longer than 300 ms", "{code}");
    }
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_is_not_allowed_is_refused() {
    let Some(sandbox) = sandbox(5000) else { return };
    let outside = std::env::temp_dir().join(format!("mx-outside-{}", std::process::id()));
    let path = outside.display();
    for code in [
        "import os; os.fork()".to_owned(),
        "import os; os.system('true')".to_owned(),
        "import subprocess; subprocess.run(['true'])".to_owned(),
        "import _posixsubprocess; _posixsubprocess.fork_exec()".to_owned(),
        "import os; os.posix_spawn('/bin/true', ['true'], {})".to_owned(),
        "import os; os.execv('/bin/true', ['true'])".to_owned(),
        "import socket; socket.socket()".to_owned(),
        "import ctypes".to_owned(),
        format!("open({:?}, 'w').write('x')", path.to_string()),
        format!(
            "import os; os.close(os.open({:?}, os.O_CREAT | os.O_WRONLY))",
            path.to_string()
        ),
        format!("import os; os.mkdir({:?})", path.to_string()),
        "import os; os.remove('/etc/hostname')".to_owned(),
        "import os; os.kill(os.getppid(), 9)".to_owned(),
        "import os; os.chdir('/')".to_owned(),
        "x = bytearray(4 << 30)".to_owned(),
        "open('big', 'wb').write(bytes(2 << 20))".to_owned(),
    ] {
        let reason = sandbox.test(&code, "pass").unwrap();
        assert!(reason.is_some(), "{code}");
        assert!(!outside.exists(), "{code}");
    }
    let loops = "import asyncio\nasync def f():\n    return 3";
    let test = "assert asyncio.run(f()) == 3";
    assert_eq!(sandbox.test(loops, test).unwrap(), None);
    let own = "open('own', 'w').write('x')\nassert open('own').read() == 'x'";
    assert_eq!(
        sandbox.test(own, "import os; os.remove('own')").unwrap(),
        None
    );
}

/// A secret beside the test is not read, whatever asks for it; what Python is made of is.
#[test]
fn files_outside_are_not_read() {
    let Some(sandbox) = sandbox(10_000) else {
        return;
    };
    let folder = Scratch::new().unwrap();
    let secret = folder.0.join("secret.txt");
    std::fs::write(&secret, "swordfish").unwrap();
    let (path, folder) = (secret.display(), folder.0.display());
    for code in [
        format!("raise ValueError(open('{path}').read())"),
        format!("import os\nraise ValueError(os.read(os.open('{path}', os.O_RDONLY), 99))"),
        format!("import pathlib\nraise ValueError(pathlib.Path('{path}').read_bytes())"),
        format!("import os\nos.symlink('{path}', 'own')\nraise ValueError(open('own').read())"),
        format!("import os\nraise ValueError(os.listdir('{folder}'))"),
        format!("import os\nraise ValueError([e.name for e in os.scandir('{folder}')])"),
        "raise ValueError(open('/etc/passwd').read())".to_owned(),
        "raise ValueError(open('/proc/self/environ').read())".to_owned(),
        "raise ValueError(open('/proc/self/mem', 'rb').read(1))".to_owned(),
    ] {
        let reason = sandbox.test(&code, "pass").unwrap().unwrap();
        assert!(reason.starts_with("PermissionError"), "{code}: {reason}");
        assert!(!reason.contains("swordfish"), "{code}: {reason}");
    }
    let modules = "import csv, datetime, decimal, json, random, re, sqlite3, unittest, zoneinfo\n\
                   import collections, dataclasses, functools, itertools, statistics, textwrap, typing";
    let test = "assert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)";
    assert_eq!(sandbox.test(modules, test).unwrap(), None);
}

/// What says that a test passed is in no frame below the code, and mending the frames does not say it.
#[test]
fn success_is_not_to_be_found() {
    let Some(sandbox) = sandbox(10_000) else {
        return;
    };
    let look = "import sys, os, gc
def found():
    frame, seen = sys._getframe(), []
    while frame:
        seen += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    for value in list(seen):
        seen += value.values() if isinstance(value, dict) else []
        for cell in getattr(value, '__closure__', None) or ():
            try:
                seen.append(cell.cell_contents)
            except ValueError:
                pass
    return seen
";
    // What is told is 32 hexadecimal digits.
    let shown = format!(
        "{look}import re
for value in found():
    value = value.decode() if isinstance(value, bytes) else value
    if isinstance(value, str) and re.fullmatch('[0-9a-f]{{16,}}', value):
        os.write(1, b'\\n' + value.encode())
        os._exit(0)
"
    );
    let failing = "assert False, 'failed'";
    let reason = sandbox.test(&shown, failing).unwrap().unwrap();
    assert_eq!(reason, "AssertionError: failed");
    let mended = format!(
        "{look}
leave = os._exit
for value in found():
    for cell in getattr(value, '__closure__', None) or ():
        if cell.cell_contents is leave:
            cell.cell_contents = lambda code: None
"
    );
    assert!(sandbox.test(&mended, failing).unwrap().is_some());
}

#[test]
fn output_and_environment_are_bounded() {
    let Some(sandbox) = sandbox(5000) else { return };
    let reason = sandbox
        .test("while True: print('x' * 100000)", "pass")
        .unwrap();
    assert!(reason.unwrap().contains("output_bytes"));
    let empty = "import os\nassert not [n for n in os.environ if n != 'LC_CTYPE'], os.environ";
    assert_eq!(
        sandbox.test(empty, "assert os.listdir('.') == []").unwrap(),
        None
    );
    let mut small = sandbox;
    small.limits.code_bytes = 10;
    assert!(
        small
            .test("x = 1234567890", "")
            .unwrap()
            .unwrap()
            .contains("code_bytes")
    );
}

#[test]
fn a_python_that_is_not_there_is_named() {
    let error = SandboxError::NoPython {
        reason: "not found".to_owned(),
    };
    assert!(error.to_string().contains("python3"));
}
