//! Help texts.

use mx_tests::mx::Home;

const COMMANDS: [&str; 12] = [
    "generate", "chat", "pull", "list", "show", "rm", "tokenize", "steer", "policy", "trace",
    "devices", "doctor",
];

#[test]
fn every_command_has_help_and_none_is_hidden() {
    let home = Home::new();
    let help = home.run(["--help"]).ok();
    let listed: Vec<&str> = help
        .out
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
    for command in COMMANDS {
        let help = home.run([command, "--help"]).ok();
        assert!(
            help.out.contains(&format!("Usage: mx {command}")),
            "{}",
            help.out
        );
        assert!(help.err.is_empty(), "{}", help.err);
    }
}

#[test]
fn the_exit_codes_are_those_of_the_library() {
    let help = Home::new().run(["--help"]).ok();
    for kind in mx::ErrorKind::ALL {
        let line = format!("{:>3}  {}", kind.exit_code(), kind.meaning());
        assert!(help.out.contains(&line), "{line:?} is not in\n{}", help.out);
    }
}

#[test]
fn version_and_nothing_typed() {
    let home = Home::new();
    assert!(home.run(["--version"]).ok().out.starts_with("mx "));
    let nothing: [&str; 0] = [];
    let ran = home.run(nothing);
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.out.is_empty() && ran.err.contains("Usage: mx"),
        "{}",
        ran.err
    );
}
