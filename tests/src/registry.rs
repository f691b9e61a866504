//! Debian's `docker-registry`, on loopback and behind a password.

use std::fs;

use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptionsBuilder, RemoveImageOptionsBuilder};
use devnet::children::{Launch, Process, Spawner, tail};
use eyre::{OptionExt as _, WrapErr as _, ensure};
use futures::StreamExt as _;

use crate::engine::engine;
use crate::waiting::eventually;

/// Debian's path.
const PROGRAM: &str = "/usr/bin/docker-registry";
/// `tester` with the password below.
const PASSWORDS: &str = "tester:$2y$05$AzCeZFr2NuZZI1EV0drqTeUJ4wNttW9me0pXh5OQqw.Sufi/rI8h.\n";

/// A running registry; it ends, and the image is removed from the engine, with [`Registry::stop`].
#[derive(Debug)]
pub struct Registry {
    /// `127.0.0.1:port`. Loopback registries are asked without TLS.
    pub host: String,
    process: Process,
    // The process lives as long as what started it.
    _spawner: Spawner,
    images: Vec<String>,
    folder: tempfile::TempDir,
}

impl Registry {
    pub const USER: &str = "tester";
    pub const PASSWORD: &str = "correct-horse";

    /// Starts it on a free port.
    pub async fn start() -> eyre::Result<Self> {
        ensure!(
            fs::exists(PROGRAM)?,
            "{PROGRAM} is missing: run script/setup (Debian package docker-registry)"
        );
        let folder = tempfile::Builder::new().prefix("spheron-registry-").tempdir()?;
        let (passwords, config) = (folder.path().join("htpasswd"), folder.path().join("config.yml"));
        fs::write(&passwords, PASSWORDS)?;
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
                 http:\n  addr: 127.0.0.1:0\nauth:\n  htpasswd:\n    realm: tests\n    path: {}\n",
                folder.path().join("data").display(),
                passwords.display()
            ),
        )?;
        let launch = Launch {
            name: "docker-registry".into(),
            program: PROGRAM.into(),
            arguments: vec!["serve".into(), config.display().to_string()],
            environment: Vec::new(),
            log: folder.path().join("log"),
        };
        let spawner = Spawner::new();
        let mut process = Process::start(&spawner, launch)?;
        let host = eventually("docker-registry to listen", async || {
            let log = tail(&process.launch.log, 200);
            let told = log.split_once("listening on ").map(|(_, rest)| rest);
            Ok(told.map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                    .collect::<String>()
            }))
        })
        .await
        .map_err(|error| error.wrap_err(process.last_words()))?;
        Ok(Self {
            host,
            process,
            _spawner: spawner,
            images: Vec::new(),
            folder,
        })
    }

    /// Whether it lets somebody in without a password.
    pub async fn is_open(&self) -> eyre::Result<bool> {
        Ok(reqwest::get(format!("http://{}/v2/", self.host))
            .await?
            .status()
            .is_success())
    }

    /// Builds an image that serves a page, pushes it, and removes it from the engine. Returns its reference.
    pub async fn push_page(&mut self, page: &str) -> eyre::Result<String> {
        let repository = format!("{}/team/page", self.host);
        let recipe = self.folder.path().join("images/page");
        fs::create_dir_all(&recipe)?;
        fs::write(recipe.join("index.html"), page)?;
        fs::write(
            recipe.join("image.toml"),
            format!(
                "reference = \"{repository}:1\"\n\
                 command = [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n\
                 [files]\n\"/www/index.html\" = \"index.html\"\n"
            ),
        )?;
        let docker = engine().await?;
        let folder = recipe.parent().ok_or_eyre("a recipe lies in a folder")?;
        let reference = devnet::images::load_all(&docker, folder)
            .await?
            .pop()
            .ok_or_eyre("one image was built")?;
        self.images.push(reference.clone());
        let credentials = DockerCredentials {
            username: Some(Self::USER.into()),
            password: Some(Self::PASSWORD.into()),
            serveraddress: Some(self.host.clone()),
            ..DockerCredentials::default()
        };
        let options = PushImageOptionsBuilder::default().tag("1").build();
        let mut push = Box::pin(docker.push_image(&repository, Some(options), Some(credentials)));
        while let Some(step) = push.next().await {
            step.wrap_err_with(|| format!("pushing {reference}"))?;
        }
        self.remove_images().await?;
        ensure!(
            docker.inspect_image(&reference).await.is_err(),
            "{reference} is still on the engine"
        );
        Ok(reference)
    }

    /// Stops the registry and removes from the engine what came out of it.
    pub async fn stop(mut self) -> eyre::Result<()> {
        self.remove_images().await.ok();
        self.process.stop().await
    }

    async fn remove_images(&self) -> eyre::Result<()> {
        let docker = engine().await?;
        for image in &self.images {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            docker
                .remove_image(image, Some(options), None)
                .await
                .wrap_err_with(|| format!("removing {image}"))?;
        }
        Ok(())
    }
}
