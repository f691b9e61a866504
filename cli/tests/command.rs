//! The command as a program: what it prints and how it exits, without a chain.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A user without a network.
struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("temporary folder"),
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_spheron"))
            .args(arguments)
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env_clear()
            .env("HOME", self.folder.path())
            .stdin(std::process::Stdio::null())
            .output()
            .expect("spheron runs")
    }

    fn file(&self, name: &str, text: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {:?}, stderr {}",
            String::from_utf8_lossy(&output.stdout),
            stderr(output)
        )
    })
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const HELLO: &str = include_str!("files/website.yaml");

#[test]
fn check_says_what_a_file_asks_for() {
    let user = User::new();
    for name in ["website", "two-services", "private-registry", "gpu"] {
        let file = format!("cli/tests/files/{name}.yaml");
        let output = user.run(&["check", &file, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        insta::assert_snapshot!(name, format!("{:#}", json(&output)));
    }
}

#[test]
fn check_for_people() {
    let output = User::new().run(&["check", "cli/tests/files/two-services.yaml"]);
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_example_passes() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut checked = 0;
    for entry in std::fs::read_dir(examples).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let output = User::new().run(&["check", path.to_str().expect("path")]);
            assert_eq!(output.status.code(), Some(0), "{}: {}", path.display(), stderr(&output));
            checked += 1;
        }
    }
    assert!(checked >= 4, "{checked} examples found");
}

#[test]
fn nothing_secret_is_printed() {
    let text = HELLO.replace("    pull_policy: IfNotPresent", "    env:\n      - PASSWORD=hunter2\n    credentials:\n      registry: r.example\n      username: u\n      password: hunter3");
    let user = User::new();
    let file = user.file("secret.yaml", text.as_bytes());
    for arguments in [
        &["check", file.to_str().expect("path"), "--json"][..],
        &["check", file.to_str().expect("path")],
    ] {
        let output = user.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(!printed.contains("hunter"), "{printed}");
    }
}

/// What is wrong with a file, and the place that must be named.
#[test]
fn a_bad_file_is_refused_with_its_place_before_anything_is_sent() {
    let user = User::new();
    let bomb = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..30 {
            let names = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{names}]\n"));
        }
        text
    };
    let edited = |from: &str, to: &str| {
        assert!(HELLO.contains(from), "the example has no {from:?} any more");
        HELLO.replace(from, to).into_bytes()
    };
    // What is wrong, the file, and what the named line holds.
    let cases = [
        (
            "an unknown key",
            edited("    pull_policy:", "    pull_polisy:"),
            "pull_polisy",
        ),
        ("a bad unit", edited("size: 32Mi", "size: 32Mj"), "32Mj"),
        (
            "a missing profile",
            edited("profile: hello", "profile: gone"),
            "profile: gone",
        ),
        (
            "an overflow",
            edited("size: 32Mi", "size: 99999999999999999999Gi"),
            "9999Gi",
        ),
        (
            "a duplicate service",
            edited("profiles:", "  hello:\n    image: other\n\nprofiles:"),
            "hello:",
        ),
        ("a bare m", edited("duration: 1h", "duration: 5m"), "5m"),
        ("a file of 10 MB", vec![b'#'; 10 << 20], ""),
        ("a bomb", bomb.into_bytes(), ""),
        ("no YAML", b"services: [".to_vec(), ""),
        ("bytes", vec![0xff, 0xfe, 0x00], ""),
        ("nothing", Vec::new(), ""),
    ];
    for (what, text, marker) in cases {
        let file = user.file("bad.yaml", &text);
        let path = file.to_str().expect("path");
        let output = user.run(&["check", path, "--json"]);
        assert_eq!(output.status.code(), Some(2), "{what}: {}", stderr(&output));
        let answer = json(&output);
        let problem = &answer["error"]["report"]["problems"][0];
        for part in ["found", "expected"] {
            assert!(
                problem[part].as_str().is_some_and(|text| !text.is_empty()),
                "{what}: {part} in {answer}"
            );
        }
        assert!(
            problem["column"].as_u64().is_some_and(|column| column > 0),
            "{what}: {answer}"
        );
        let line = problem["line"]
            .as_u64()
            .and_then(|line| usize::try_from(line - 1).ok())
            .expect("a line");
        let named = String::from_utf8_lossy(&text)
            .lines()
            .nth(line)
            .unwrap_or_default()
            .to_owned();
        assert!(named.contains(marker), "{what}: line {line} is {named:?}: {answer}");
        assert!(
            stderr(&output).contains(&format!("{path}:{}:{}", problem["line"], problem["column"])),
            "{what}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).len() < 20_000,
            "{what}: {} bytes of complaint",
            stderr(&output).len()
        );
    }
}

#[test]
fn input_that_leads_nowhere_has_status_2_and_says_what_to_do() {
    let user = User::new();
    let network = user.file("network.json", b"{}");
    for (arguments, expected) in [
        (&["check", "no/such/file.yaml"][..], "no/such/file.yaml"),
        (&["account", "show"], "script/devnet"),
        (&["--network", "mainnet", "account", "show"], "mainnet"),
        (
            &["--network", network.to_str().expect("path"), "account", "show"],
            "not a network description",
        ),
        (&["lease", "show", "lease"], "invalid value"),
        (&["deploy"], "required"),
    ] {
        let output = user.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_command_line_that_is_none_is_an_error_for_programs_too() {
    for (arguments, expected) in [
        (&["deploy", "--json"][..], "required arguments"),
        (&["--json", "lease", "show", "lease"], "invalid value 'lease'"),
        (&["--json", "leese"], "unrecognized subcommand 'leese'"),
    ] {
        let output = User::new().run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        let error = &json(&output)["error"];
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(expected), "{error}");
        assert!(!message.contains("Usage") && !message.starts_with("error"), "{error}");
        assert_eq!(error["status"], 2);
        assert!(stderr(&output).contains("--help"), "{arguments:?}: {}", stderr(&output));
    }
    // Help is no error, and what follows `--` no flag.
    let help = User::new().run(&["--json", "deploy", "--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Examples:"));
    let output = User::new().run(&["lease", "show", "--", "--json"]);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(2), 0),
        "{}",
        stderr(&output)
    );
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = User::new().run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}: {}", stderr(&output));
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(script.contains("spheron") && script.contains("deploy"), "{shell}");
    }
}
