//! Dashboards and alerts name only metrics that a running agent exports.

use std::collections::BTreeSet;
use std::path::Path;

use eyre::{OptionExt as _, WrapErr as _, ensure};
use serde_json::Value;
use system_tests::{Sharing, example, on_devnet, repository};

/// Dashboard and the agent that exports what it shows.
const DASHBOARDS: [(&str, &str); 3] = [
    ("operator", "operator-1"),
    ("aggregator", "aggregator-1"),
    ("provider", "provider-1"),
];
/// What Prometheus itself knows of every target.
const OF_PROMETHEUS: [&str; 1] = ["up"];

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_and_alerts_name_metrics_that_agents_export() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            // Metrics with labels appear with their first value.
            let user = network.user("user-1").await?;
            network.deployed(&user, &example("hello.icl.yaml")).await?;
            let folder = repository().join("anvil-config");
            let mut everything = BTreeSet::new();
            for (dashboard, agent) in DASHBOARDS {
                let exported = exported(&network.metrics(agent).await?);
                let path = folder.join(format!("grafana/dashboards/{dashboard}.json"));
                let named = metrics_of(&expressions(&path)?);
                ensure!(!named.is_empty(), "{} shows nothing", path.display());
                let unknown: Vec<_> = named.difference(&exported).collect();
                ensure!(
                    unknown.is_empty(),
                    "{} names {unknown:?}, which {agent} does not export",
                    path.display()
                );
                everything.extend(exported);
            }
            let rules = std::fs::read_to_string(folder.join("prometheus/alerts.yml"))?;
            let expressions: Vec<String> = rules
                .lines()
                .filter_map(|line| Some(line.trim_start().strip_prefix("expr:")?.trim().to_owned()))
                .collect();
            let named = metrics_of(&expressions);
            ensure!(!named.is_empty(), "alerts.yml has no rule");
            let unknown: Vec<_> = named.difference(&everything).collect();
            ensure!(
                unknown.is_empty(),
                "alerts.yml names {unknown:?}, which no agent exports"
            );

            let targets = std::fs::read(network.devnet.options.directory.join("prometheus-targets.json"))?;
            let targets: Value = serde_json::from_slice(&targets)?;
            let targets = targets.as_array().ok_or_eyre("a list of targets")?;
            ensure!(
                targets.len() == network.devnet.agents.len(),
                "{} of {} agents are targets of Prometheus",
                targets.len(),
                network.devnet.agents.len()
            );
            Ok(())
        },
    )
    .await
}

/// Names of metrics as they are queried: help and type lines name families even before the first value.
fn exported(text: &str) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    for line in text.lines() {
        let mut words = line.split(' ');
        let (Some("#"), Some("TYPE"), Some(family), Some(kind)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        match kind {
            "counter" => drop(names.insert(format!("{family}_total"))),
            "histogram" => {
                names.extend(["bucket", "sum", "count"].map(|part| format!("{family}_{part}")));
            }
            _ => drop(names.insert(family.to_owned())),
        }
    }
    names
}

/// The expressions of a dashboard's panels.
fn expressions(path: &Path) -> eyre::Result<Vec<String>> {
    let text = std::fs::read(path).wrap_err_with(|| path.display().to_string())?;
    let dashboard: Value = serde_json::from_slice(&text).wrap_err_with(|| path.display().to_string())?;
    let panels = dashboard["panels"].as_array().ok_or_eyre("a dashboard has panels")?;
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    Ok(targets
        .filter_map(|target| target["expr"].as_str().map(str::to_owned))
        .collect())
}

/// Words of PromQL that are no metric.
const LANGUAGE: [&str; 24] = [
    "sum",
    "rate",
    "increase",
    "by",
    "max",
    "min",
    "avg",
    "histogram_quantile",
    "le",
    "on",
    "and",
    "or",
    "unless",
    "ignoring",
    "without",
    "time",
    "delta",
    "count",
    "clamp_min",
    "topk",
    "offset",
    "abs",
    "max_over_time",
    "changes",
];

/// The metrics that expressions name: words outside of braces, brackets and quotes, and of label lists.
fn metrics_of(expressions: &[String]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for expression in expressions {
        let mut depth = 0u32;
        let mut word = String::new();
        let mut after_by = false;
        for letter in expression.chars().chain([' ']) {
            if letter.is_ascii_alphanumeric() || letter == '_' || letter == ':' {
                word.push(letter);
                continue;
            }
            let done = std::mem::take(&mut word);
            match done.as_str() {
                "by" | "without" | "on" | "ignoring" => after_by = true,
                name if depth == 0
                    && name.starts_with(|first: char| first.is_ascii_alphabetic())
                    && !LANGUAGE.contains(&name) =>
                {
                    names.insert(name.to_owned());
                }
                _ => {}
            }
            match letter {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                '(' if after_by => depth += 1,
                ')' if after_by => {
                    depth = depth.saturating_sub(1);
                    after_by = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn metrics_are_told_from_labels_and_functions() {
    let expressions = [
        "sum by (reason) (rate(operator_refused_total{reason=\"x\"}[5m])) / up".to_owned(),
        "histogram_quantile(0.9, sum by (le) (rate(a_seconds_bucket[1m]))) > 3".to_owned(),
    ];
    let expected = ["a_seconds_bucket", "operator_refused_total", "up"].map(str::to_owned);
    assert_eq!(metrics_of(&expressions), expected.into());
}
