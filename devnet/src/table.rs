//! What a person copies from: one table, once everything runs.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

/// The table of a running devnet, from its `devnet.json`.
pub fn render(file: &Value, path: &Path) -> String {
    let mut text = String::new();
    let mut line = |columns: &[&str]| {
        let row = match columns {
            [first, rest @ ..] => format!("{first:<21} {}", rest.join("  ")),
            [] => String::new(),
        };
        writeln!(text, "{}", row.trim_end()).expect("writing into a string");
    };
    line(&[
        "chain",
        text_of(&file["rpc"][0]),
        &format!("chain id {}", file["chain_id"]),
    ]);
    line(&[]);
    let empty = serde_json::Map::new();
    for (name, agent) in file["agents"].as_object().unwrap_or(&empty) {
        let pid = agent["pid"]
            .as_u64()
            .map(|pid| format!("pid {pid:<8}"))
            .unwrap_or_else(|| "not running".into());
        let http = agent["http"]
            .as_str()
            .map(|http| format!("http://{http}"))
            .unwrap_or_default();
        let gateway = agent["gateway"]
            .as_str()
            .map(|gateway| format!("gateway https://{gateway}"))
            .unwrap_or_default();
        line(&[name, &pid, &format!("{http:<23}"), &gateway]);
    }
    line(&[]);
    for (name, address) in file["contracts"].as_object().unwrap_or(&empty) {
        line(&[&name.replace('_', "-"), text_of(address)]);
    }
    line(&[]);
    line(&["DEV ONLY keys: worthless anywhere else"]);
    for (name, account) in file["accounts"].as_object().unwrap_or(&empty) {
        if name.starts_with("user") {
            line(&[name, text_of(&account["address"]), text_of(&account["private_key"])]);
        }
    }
    line(&[]);
    line(&["network file", &path.display().to_string()]);
    line(&["logs", &path.with_file_name("logs").display().to_string()]);
    line(&[
        "next",
        "spheron init --key .local/devnet/user-1/ecdsa.key --token uSPON --deposit 1000 && spheron deploy examples/hello.icl.yaml",
    ]);
    text
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
