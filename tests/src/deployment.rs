//! Deployment files, and what becomes of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use eyre::{OptionExt as _, WrapErr as _, ensure};
use serde_json::Value;

use crate::waiting::{DEADLINE, eventually};

/// What `spheron deploy --json` says.
#[derive(Clone, Debug)]
pub struct Deployed {
    pub order: u64,
    pub urls: Vec<String>,
}

impl Deployed {
    pub(crate) fn read(value: &Value) -> eyre::Result<Self> {
        let order = value["order"]
            .as_str()
            .ok_or_eyre("`spheron deploy` names the order")?
            .parse()?;
        let services = value["services"]
            .as_array()
            .ok_or_eyre("`spheron deploy` lists services")?;
        let urls = services
            .iter()
            .filter_map(|service| service["urls"].as_array())
            .flatten();
        Ok(Self {
            order,
            urls: urls.filter_map(|url| url.as_str().map(ToOwned::to_owned)).collect(),
        })
    }

    /// The first URL.
    pub fn url(&self) -> eyre::Result<&str> {
        self.urls
            .first()
            .map(String::as_str)
            .ok_or_eyre("the deployment has a URL")
    }
}

/// Waits for a command, and says what it complained about if it failed.
pub async fn expect_success(what: &str, child: tokio::process::Child) -> eyre::Result<Value> {
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output())
        .await
        .map_err(|_| eyre::eyre!("{what} did not end within {} s", DEADLINE.as_secs()))??;
    ensure!(
        output.status.success(),
        "{what} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).wrap_err_with(|| format!("{what} printed no JSON"))
}

/// Body of a URL, once it answers.
pub async fn get(url: &str) -> eyre::Result<String> {
    let client = reqwest::Client::new();
    eventually(&format!("{url} to answer"), async || {
        let Ok(answer) = client.get(url).timeout(Duration::from_secs(10)).send().await else {
            return Ok(None);
        };
        if !answer.status().is_success() {
            return Ok(None);
        }
        Ok(answer.text().await.ok())
    })
    .await
}

/// A deployment file with one service, published, on port 8080; `service` is YAML of that section beside `expose`.
pub fn deployment(service: &str) -> String {
    let service = service.trim_matches('\n').replace('\n', "\n    ");
    format!(
        "version: \"1.0\"\n\
         services:\n  app:\n    {service}\n    expose:\n      - port: 8080\n        as: 80\n        to:\n          - global: true\n\
         profiles:\n  name: app\n  mode: provider\n  duration: 1h\n  compute:\n    app:\n      resources:\n        \
         cpu:\n          units: 0.1\n        memory:\n          size: 32Mi\n        storage:\n          size: 256Mi\n  \
         placement:\n    anywhere:\n      pricing:\n        app:\n          token: uSPON\n          amount: 1\n\
         deployment:\n  app:\n    anywhere:\n      profile: app\n      count: 1\n"
    )
}

/// The tree.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the tree")
        .to_owned()
}

/// A file of the examples.
pub fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}
