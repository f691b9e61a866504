//! The images of the examples, built from files in the tree and loaded into the engine: nothing is pulled.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bytes::Bytes;
use eyre::{WrapErr as _, bail, ensure};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// `image.toml` in a folder under `examples/images`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    reference: String,
    command: Vec<String>,
    /// Path in the image to file in the folder.
    #[serde(default)]
    files: BTreeMap<String, PathBuf>,
}

/// Builds every image under a folder and loads what the engine lacks. Returns the references.
pub async fn load_all(docker: &Docker, folder: &Path) -> eyre::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).wrap_err_with(|| format!("cannot read {}", folder.display()))?;
    let mut references = Vec::new();
    for entry in entries {
        let recipe = entry?.path().join("image.toml");
        if recipe.is_file() {
            references.push(
                load(docker, &recipe)
                    .await
                    .wrap_err_with(|| format!("image of {}", recipe.display()))?,
            );
        }
    }
    references.sort();
    Ok(references)
}

async fn load(docker: &Docker, path: &Path) -> eyre::Result<String> {
    let recipe: Recipe = toml::from_str(&std::fs::read_to_string(path)?)?;
    let image = Archive::build(&recipe, path.parent().expect("a file lies in a folder"))?;
    let present = docker
        .inspect_image(&recipe.reference)
        .await
        .ok()
        .and_then(|found| found.id);
    if present.as_deref() == Some(image.id.as_str()) {
        return Ok(recipe.reference);
    }
    let options = bollard::query_parameters::ImportImageOptionsBuilder::default()
        .quiet(true)
        .build();
    let mut progress = docker.import_image(options, bollard::body_full(Bytes::from(image.tar)), None);
    while let Some(step) = progress.next().await {
        let step = step.wrap_err("the engine did not load the image")?;
        if let Some(error) = step.error_detail.and_then(|detail| detail.message) {
            bail!("the engine did not load the image: {error}");
        }
    }
    let loaded = docker
        .inspect_image(&recipe.reference)
        .await
        .wrap_err("the image is not there after loading it")?;
    ensure!(loaded.id.is_some(), "the engine gave the image no id");
    Ok(recipe.reference)
}

/// An image in the format of `docker save`, the same bytes for the same files.
struct Archive {
    id: String,
    tar: Vec<u8>,
}

impl Archive {
    fn build(recipe: &Recipe, folder: &Path) -> eyre::Result<Self> {
        let busybox = std::fs::read(BUSYBOX)
            .wrap_err_with(|| format!("{BUSYBOX} is missing: run script/setup (Debian package busybox-static)"))?;
        let mut layer = tar::Builder::new(Vec::new());
        add(&mut layer, "bin/busybox", 0o755, &busybox)?;
        for (target, source) in &recipe.files {
            ensure!(
                source.components().count() == 1,
                "{} must be a file of the recipe's folder",
                source.display()
            );
            let source = folder.join(source);
            let content = std::fs::read(&source).wrap_err_with(|| format!("cannot read {}", source.display()))?;
            add(&mut layer, target.trim_start_matches('/'), 0o644, &content)?;
        }
        let layer = layer.into_inner()?;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = serde_json::to_vec(&json!({
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            // Busybox' applets have nothing to finish, and as a container's first process none of them ends at a TERM: each stop
            // would wait until the grace is over.
            "config": {"Cmd": recipe.command, "WorkingDir": "/", "StopSignal": "SIGKILL"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
            "history": [{"created": "1970-01-01T00:00:00Z"}],
        }))?;
        let id = hex::encode(Sha256::digest(&config));
        let config_name = format!("{id}.json");
        let manifest = serde_json::to_vec(&json!([
            {"Config": config_name, "RepoTags": [recipe.reference], "Layers": ["layer.tar"]}
        ]))?;
        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, &config_name, 0o644, &config)?;
        add(&mut archive, "layer.tar", 0o644, &layer)?;
        add(&mut archive, "manifest.json", 0o644, &manifest)?;
        let mut tar = archive.into_inner()?;
        tar.flush()?;
        Ok(Self {
            id: format!("sha256:{id}"),
            tar,
        })
    }
}

fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> eyre::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    archive
        .append_data(&mut header, path, content)
        .wrap_err_with(|| format!("cannot pack {path}"))
}
