use std::collections::BTreeMap;
use std::time::Duration;

use alloy_primitives::{Address, U256};
use url::Url;

use super::*;
use crate::Secret;

crate::section! {
    /// How the chain is read.
    struct Rpc {
        /// JSON-RPC endpoints; reads fall over from one to the next.
        urls: Vec<Url>,
        /// How long one call may take.
        timeout: Duration = Duration::from_secs(5),
    }
}

impl Validate for Rpc {
    fn problems(&self, problems: &mut Problems) {
        if self.urls.len() < 2 {
            problems.invalid("urls", "needs at least two endpoints, so that one may fail");
        }
    }
}

crate::section! {
    /// The key.
    struct Key {
        /// The keystore file.
        path: PathBuf,
        /// Its password.
        password: Secret,
    }
}

impl Validate for Key {}

crate::section! {
    /// An agent.
    struct Agent {
        /// Where its files are.
        data_directory: PathBuf = PathBuf::from("data"),
        /// The task manager's address.
        task_manager: Address,
        /// The smallest price worth a bid.
        minimum: U256 = U256::from(7),
        /// How many at once.
        workers: u16 = 4,
        /// Prices by GPU model.
        prices: BTreeMap<String, u64>,
        /// The largest disk.
        disk: ByteSize = ByteSize(10 << 30),
        /// Where metrics are served.
        listen: Option<std::net::SocketAddr>,
        /// How the chain is read.
        rpc: Rpc,
        /// The key, where this agent sends transactions.
        key: Option<Key>,
    }
}

impl Validate for Agent {}

const VALID: &str = r#"
task_manager = "0x00000000000000000000000000000000000000aa"
workers = 0x10

[prices]
h100 = 90

[rpc]
urls = ["http://a.example/", "http://b.example/"]
"#;

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn report_of(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let report = parse::<Agent>("agent.toml", text, "AGENT", &variables(environment)).expect_err("problems");
    report
        .to_string()
        .lines()
        .skip(1)
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn a_valid_file_is_read_with_its_defaults() {
    let agent: Agent = parse("agent.toml", VALID, "AGENT", &[]).expect("valid");
    assert_eq!(agent.workers, 16);
    assert_eq!(agent.prices["h100"], 90);
    assert_eq!(agent.rpc.timeout, Duration::from_secs(5));
    assert_eq!(agent.minimum, U256::from(7));
    assert_eq!(agent.task_manager, Address::with_last_byte(0xaa));
    assert_eq!(agent.disk, ByteSize(10 << 30));
    assert!(agent.key.is_none() && agent.listen.is_none());
}

#[test]
fn every_problem_is_in_one_report_with_its_place() {
    let text = r#"
task_manager = "0xaa"
workers = 70000
wrokers = 1
disk = "10"

[prices]
h100 = "cheap"

[rpc]
urls = ["http://a.example/", "not a url"]
timeout = 5

[key]
password = "hunter2"
"#;
    let lines = report_of(text, &[("AGENT__LISTEN", "localhost"), ("AGENT__RPC__RETRIES", "3")]);
    let expected = [
        ("agent.toml:4:1", "`wrokers` is not a known key"),
        ("agent.toml:2:1", "`task_manager` expected an address"),
        ("agent.toml:3:1", "`workers` expected an integer from 0 to 65535"),
        ("agent.toml:8:1", "`prices.h100` expected an integer"),
        (
            "agent.toml:5:1",
            "`disk` expected a size such as 512MiB: it has no unit",
        ),
        (
            "environment variable AGENT__LISTEN",
            "`listen` expected an address with port",
        ),
        (
            "environment variable AGENT__RPC__RETRIES",
            "`rpc.retries` is not a known key; known here: urls, timeout",
        ),
        ("agent.toml:11:30", "`rpc.urls.1` expected a URL"),
        ("agent.toml:12:1", "`rpc.timeout` expected a duration with unit"),
        ("agent.toml:14:2", "`key.path` is missing (expected a path)"),
        (
            "agent.toml:15:1",
            "`key.password` a secret does not stand in the file itself",
        ),
    ];
    for (place, message) in expected {
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with(place) && line.contains(message)),
            "no line with {place:?} and {message:?} in\n{}",
            lines.join("\n")
        );
    }
    assert_eq!(lines.len(), expected.len(), "{}", lines.join("\n"));
    assert!(!lines.join("\n").contains("hunter2"));
}

#[test]
fn a_missing_section_is_reported_by_its_missing_keys() {
    let lines = report_of("", &[]);
    assert!(
        lines.iter().any(|line| line.contains("`task_manager` is missing")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("`rpc.urls` is missing")),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn what_the_types_cannot_say_is_checked_with_its_place() {
    let text = VALID.replace(r#", "http://b.example/""#, "");
    let lines = report_of(&text, &[]);
    assert_eq!(
        lines,
        ["agent.toml:9:1: `rpc.urls` needs at least two endpoints, so that one may fail"]
    );
}

#[test]
fn all_syntax_errors_are_reported_and_nothing_is_called_missing_because_of_them() {
    let lines = report_of("workers = \nurls = [1,\n[rpc\n", &[]);
    assert!(lines.len() >= 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("not TOML")), "{lines:?}");
}

#[test]
fn the_environment_overrides_every_type() {
    let environment = variables(&[
        ("AGENT__WORKERS", "9"),
        ("AGENT__DATA_DIRECTORY", "/var/lib/agent"),
        ("AGENT__RPC__URLS", "http://c.example/, http://d.example/"),
        ("AGENT__PRICES__A100", "50"),
        ("AGENT__KEY__PATH", "/keys/agent.json"),
        ("AGENT__KEY__PASSWORD", "hunter2"),
        ("AGENT_CONFIG", "not ours"),
    ]);
    let agent: Agent = parse("agent.toml", VALID, "AGENT", &environment).expect("valid");
    assert_eq!(agent.workers, 9);
    assert_eq!(agent.data_directory, Path::new("/var/lib/agent"));
    assert_eq!(agent.rpc.urls[0].as_str(), "http://c.example/");
    assert_eq!(agent.prices.len(), 2);
    assert!(!format!("{agent:?}").contains("hunter2"));
    let key = agent.key.expect("key");
    assert_eq!(
        (key.path.to_str(), key.password.expose()),
        (Some("/keys/agent.json"), "hunter2")
    );

    let as_toml = variables(&[("AGENT__RPC__URLS", r#"["http://c.example/", "http://d.example/"]"#)]);
    assert_eq!(
        parse::<Agent>("agent.toml", VALID, "AGENT", &as_toml)
            .expect("valid")
            .rpc
            .urls
            .len(),
        2
    );
}

#[test]
fn paths_in_the_file_start_from_its_directory() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("agent.toml");
    std::fs::write(&file, format!("data_directory = \"state\"\n{VALID}")).expect("write");
    let agent: Agent = load(Some(&file), "AGENT_THAT_IS_NOT_SET").expect("valid");
    assert_eq!(agent.data_directory, directory.path().join("state"));
    let missing = load::<Agent>(Some(&directory.path().join("nothing.toml")), "AGENT").expect_err("no file");
    assert!(
        missing.to_string().contains("nothing.toml: cannot be read"),
        "{missing}"
    );
}

#[test]
fn the_example_is_valid_once_what_is_required_is_filled_in() {
    let example = example::<Agent>();
    assert!(example.contains("# JSON-RPC endpoints; reads fall over"), "{example}");
    assert!(
        example.contains("timeout = \"5s\"") && example.contains("disk = \"10GiB\""),
        "{example}"
    );
    let filled = example
        .replace(
            "# task_manager = (required: an address of 20 bytes in hexadecimal)",
            "task_manager = \"0x00000000000000000000000000000000000000aa\"",
        )
        .replace(
            "# urls = (required: a list, each a URL)",
            "urls = [\"http://a.example\", \"http://b.example\"]",
        )
        .replace("# path = (required: a path)", "path = \"key.json\"");
    let environment = variables(&[("AGENT__KEY__PASSWORD", "hunter2")]);
    parse::<Agent>("example.toml", &filled, "AGENT", &environment)
        .unwrap_or_else(|report| panic!("{report}\n{filled}"));
}

#[test]
fn check_writes_the_verdict_as_text_and_as_json() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("agent.toml");
    std::fs::write(&file, "workers = true\n").expect("write");
    let mut out = Vec::new();
    assert!(!check::<Agent>(Some(&file), "AGENT", true, &mut out).expect("write"));
    let verdict: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(verdict["valid"], false);
    assert!(
        verdict["problems"]
            .as_array()
            .expect("list")
            .iter()
            .any(|problem| problem["line"] == 1)
    );
}

proptest::proptest! {
    #[test]
    fn any_text_gives_a_value_or_a_report(text in "\\PC{0,200}", variable in "[A-Z_]{0,20}") {
        let environment = variables(&[(format!("AGENT__{variable}").as_str(), text.as_str())]);
        let _ = parse::<Agent>("agent.toml", &text, "AGENT", &environment);
    }

    #[test]
    fn durations_round_trip(milliseconds in 0u64..1u64 << 50) {
        let duration = Duration::from_millis(milliseconds);
        let text = format!("{VALID}timeout = {}\n", duration.example().expect("plain"));
        let agent: Agent = parse("agent.toml", &text, "AGENT", &[]).expect("valid");
        proptest::prop_assert_eq!(agent.rpc.timeout, duration);
    }
}
