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
