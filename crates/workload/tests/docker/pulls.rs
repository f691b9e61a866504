//! Pulls of leases that share an engine, from registries made for it.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::query_parameters::RemoveImageOptionsBuilder;
use manifest::{Manifest, PullPolicy};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use workload::{Assignment, Engine, LeaseId};

use crate::support::{run_on, unique, until, with_provider};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const IDLE: &str = "exec sleep 3600";
/// As many layers as an engine downloads at a time, whoever they are for.
const LAYERS: usize = 3;

/// A registry on this machine: engines speak plain HTTP to it.
struct Registry {
    address: String,
    /// Requests for layers.
    asked: Arc<AtomicUsize>,
}

/// What a registry answers.
#[derive(Default)]
struct Content {
    /// By path: content type and body.
    whole: HashMap<String, (&'static str, Vec<u8>)>,
    /// Paths that are answered with a byte now and then, of 64 MiB.
    drips: Vec<String>,
}

impl Content {
    /// An image with these layers, whose bytes are given or drip.
    fn add(&mut self, repository: &str, layers: &[(String, Option<Vec<u8>>)]) {
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let ids: Vec<&String> = layers.iter().map(|(digest, _)| digest).collect();
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": ids },
        })
        .to_string()
        .into_bytes();
        let described: Vec<_> = layers
            .iter()
            .map(|(digest, bytes)| {
                serde_json::json!({
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": bytes.as_ref().map_or(64 << 20, Vec::len), "digest": digest,
                })
            })
            .collect();
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": described,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(), "digest": digest(&config),
            },
        })
        .to_string()
        .into_bytes();
        let blob = |digest: &str| format!("/v2/{repository}/blobs/{digest}");
        for name in ["1".to_owned(), digest(&manifest)] {
            let path = format!("/v2/{repository}/manifests/{name}");
            self.whole.insert(path, (MANIFEST, manifest.clone()));
        }
        self.whole
            .insert(blob(&digest(&config)), ("application/octet-stream", config));
        for (digest, bytes) in layers {
            match bytes {
                Some(bytes) => {
                    let answer = ("application/octet-stream", bytes.clone());
                    self.whole.insert(blob(digest), answer);
                }
                None => self.drips.push(blob(digest)),
            }
        }
    }

    async fn serve(self) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let (content, count) = (Arc::new(self), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (content, count) = (Arc::clone(&content), Arc::clone(&count));
                // The engine hangs up when it likes.
                tokio::spawn(async move { content.answer(stream, &count).await.ok() });
            }
        });
        Registry { address, asked }
    }

    async fn answer(&self, stream: TcpStream, count: &AtomicUsize) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        // The engine tries TLS first, whose records begin with this.
        if stream.fill_buf().await?.first() == Some(&0x16) {
            return Ok(());
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let stream = stream.get_mut();
        if self.drips.iter().any(|drip| drip == path) {
            count.fetch_add(1, Ordering::Relaxed);
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                64 << 20
            );
            stream.write_all(head.as_bytes()).await?;
            let mut drip = tokio::time::interval(Duration::from_millis(200));
            loop {
                drip.tick().await;
                stream.write_all(&[0]).await?;
            }
        }
        let empty = ("text/plain", Vec::new());
        let (status, (kind, body)) = match self.whole.get(path) {
            Some(answer) => ("200 OK", answer),
            None if path == "/v2/" => ("200 OK", &empty),
            None => ("404 Not Found", &empty),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\ndocker-content-digest: {}\r\n\r\n",
            body.len(),
            digest(body)
        );
        stream.write_all(head.as_bytes()).await?;
        if method != "HEAD" {
            stream.write_all(body).await?;
        }
        stream.shutdown().await
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// A layer with a shell, which no engine has.
fn layer_with_a_shell() -> Vec<u8> {
    let root = tempfile::tempdir().expect("a temporary folder");
    let path = root.path();
    std::fs::create_dir(path.join("bin")).expect("a folder");
    std::fs::copy("/bin/busybox", path.join("bin/busybox"))
        .expect("/bin/busybox: run script/setup, or apt-get install busybox-static");
    for applet in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(applet)).expect("a link");
    }
    std::fs::write(path.join("unique"), unique().to_string()).expect("a file");
    archive(path)
}

fn archive(path: &Path) -> Vec<u8> {
    let archive = Command::new("tar")
        .args(["-C", path.to_str().expect("a plain path"), "-c", "."])
        .output()
        .expect("tar runs");
    assert!(archive.status.success());
    archive.stdout
}

/// Has the services pull from these repositories, in the services' order.
fn pull_from(manifest: &mut Manifest, registry: &Registry, repositories: &[&str]) {
    for (service, repository) in manifest.services.values_mut().zip(repositories) {
        service.image = format!("{}/{repository}:1", registry.address);
        service.pull_policy = PullPolicy::Always;
    }
}

/// A lease whose registry drips takes neither all turns here nor all downloads of the engine from another lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_drips_keeps_no_other_lease_waiting() {
    with_provider(async |provider| {
        let (greedy, other) = (LeaseId(71), LeaseId(72));
        let repositories = ["a", "b", "c"];
        let mut content = Content::default();
        for repository in repositories {
            let layers: Vec<_> = (0..LAYERS)
                .map(|layer| (digest(format!("{repository} {layer} {}", unique()).as_bytes()), None))
                .collect();
            content.add(repository, &layers);
        }
        let dripping = content.serve().await;
        let mut content = Content::default();
        let layer = layer_with_a_shell();
        content.add("app", &[(digest(&layer), Some(layer))]);
        let honest = content.serve().await;

        let engine = provider.again(|settings| settings.pull.slow_after = Duration::from_secs(2));
        let mut manifest = provider.manifest(&[("a", IDLE, &[]), ("b", IDLE, &[]), ("c", IDLE, &[])]);
        pull_from(&mut manifest, &dripping, &repositories);
        engine
            .apply(greedy, &manifest, &Assignment::default())
            .await
            .expect("pulls begin");
        until("the engine to be busy with layers that drip", || async {
            (dripping.asked.load(Ordering::Relaxed) >= LAYERS).then_some(())
        })
        .await;

        let mut manifest = provider.manifest(&[("app", IDLE, &[])]);
        pull_from(&mut manifest, &honest, &["app"]);
        run_on(&engine, other, &manifest, &Assignment::default()).await;

        let status = engine
            .status(greedy)
            .await
            .expect("the engine answers")
            .expect("the lease");
        let said = format!("{status:?}");
        assert!(said.contains("while other leases waited"), "nobody is told why: {said}");
        engine.remove(greedy).await.expect("the lease can be removed");
        engine.remove(other).await.expect("the lease can be removed");
        let image = format!("{}/app:1", honest.address);
        let forced = RemoveImageOptionsBuilder::new().force(true).build();
        provider
            .docker
            .remove_image(&image, Some(forced), None)
            .await
            .expect("the image can be removed");
    })
    .await;
}
