//! Images: from the manifest's reference to bytes on this machine that change no more.
//!
//! A pull runs in the background with a deadline and a pause that grows; what it came to is asked for at every apply.
//! The deadline does not run while others have their turn ([`super::turns`]).
//! What another attempt cannot change (no such image, not allowed, another architecture) ends it at once.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::auth::DockerCredentials;
use bollard::errors::Error as EngineError;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use manifest::{Credentials, PullPolicy, Service};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::images::{PrivateImages, engine_architecture, inspect};
use super::settings::PullSettings;
use super::throughput::{Layers, Meter};
use super::turns::{Turn, Turns};
use crate::engine::Error;
use crate::image::ImageReference;
use crate::model::{LeaseId, ResolvedImage};

/// How often a pull's progress is looked at.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(50);

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ImageState {
    /// Here.
    Ready(ResolvedImage),
    /// On the way.
    Pulling(Progress),
    /// Not to be had, and why.
    Failed(String),
}

/// How far a pull is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) received_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) attempt: u32,
    pub(super) last_error: Option<String>,
}

/// All pulls of one engine.
#[derive(Debug)]
pub(super) struct Puller {
    settings: PullSettings,
    private_images: PrivateImages,
    turns: Arc<Turns>,
    wake: Arc<Notify>,
    pulls: Pulls,
}

type Pulls = Arc<Mutex<HashMap<(LeaseId, String), Pull>>>;

#[derive(Debug)]
struct Pull {
    /// What the manifest says: another reference is another pull.
    reference: String,
    state: ImageState,
    task: AbortHandle,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puller {
    pub(super) fn new(settings: PullSettings, private_images: PathBuf, wake: Arc<Notify>) -> Self {
        Self {
            settings,
            private_images: PrivateImages::new(private_images),
            turns: Arc::new(Turns::new(settings.parallel)),
            wake,
            pulls: Pulls::default(),
        }
    }

    /// How far a service's image is; begins to pull it where that is what the manifest wants. `known` is what was
    /// resolved before.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        engine: &bollard::Docker,
        lease: LeaseId,
        service_name: &str,
        service: &Service,
        known: Option<&ResolvedImage>,
    ) -> Result<ImageState, Error> {
        let reference: ImageReference = match service.image.parse() {
            Ok(reference) => reference,
            Err(error) => return Ok(ImageState::Failed(error.to_string())),
        };
        let key = (lease, service_name.to_owned());
        if let Some(pull) = lock(&self.pulls).get(&key)
            && pull.reference == service.image
        {
            return Ok(pull.state.clone());
        }

        if let Some(known) = known.filter(|known| known.reference == service.image) {
            if inspect(engine, &known.id).await?.is_some() {
                return Ok(ImageState::Ready(known.clone()));
            }
            // The same bytes as before, not whatever the tag points to by now.
            return Ok(match known.digest.as_deref().map(str::parse) {
                Some(Ok(digest)) => self.begin(engine, key, service, digest),
                _ => ImageState::Failed(format!(
                    "the image `{}` was removed from this machine and exists nowhere else; send the manifest again once it is back",
                    service.image
                )),
            });
        }

        if service.pull_policy != PullPolicy::Always
            && let Some(found) = inspect(engine, &reference.to_string()).await?
        {
            let own = self.private_images.contains(&found.id);
            match (own, service.pull_policy) {
                // Somebody else's login brought it here: this lease has to show its own to the registry.
                (true, PullPolicy::IfNotPresent) => {}
                (true, _) => {
                    return Ok(ImageState::Failed(format!(
                        "the image `{}` comes from a private registry; use pull_policy IfNotPresent with credentials",
                        service.image
                    )));
                }
                (false, _) => {
                    let architecture = engine_architecture(engine).await?;
                    return Ok(match found.check(&architecture) {
                        Ok(()) => ImageState::Ready(found.resolved(&service.image, &reference)),
                        Err(reason) => ImageState::Failed(reason),
                    });
                }
            }
        }
        if service.pull_policy == PullPolicy::Never {
            return Ok(ImageState::Failed(format!(
                "the image `{}` is not on this machine and pull_policy is Never",
                service.image
            )));
        }
        Ok(self.begin(engine, key, service, reference))
    }

    /// What is known of a lease's pulls, by service.
    pub(super) fn states(&self, lease: LeaseId) -> HashMap<String, ImageState> {
        lock(&self.pulls)
            .iter()
            .filter(|((of, _), _)| *of == lease)
            .map(|((_, service), pull)| (service.clone(), pull.state.clone()))
            .collect()
    }

    /// Ends a lease's pulls.
    pub(super) fn forget(&self, lease: LeaseId) {
        lock(&self.pulls).retain(|(of, _), _| *of != lease);
    }

    /// Lets a lease's failed pulls begin again.
    pub(super) fn forget_failures(&self, lease: LeaseId) {
        lock(&self.pulls).retain(|(of, _), pull| *of != lease || !matches!(pull.state, ImageState::Failed(_)));
    }

    fn begin(
        self: &Arc<Self>,
        engine: &bollard::Docker,
        key: (LeaseId, String),
        service: &Service,
        target: ImageReference,
    ) -> ImageState {
        let login = service
            .credentials
            .as_ref()
            .filter(|credentials| target.accepts_login_for(&credentials.registry))
            .map(login);
        let first = ImageState::Pulling(Progress {
            attempt: 1,
            ..Progress::default()
        });
        let mut pulls = lock(&self.pulls);
        let task = PullTask {
            puller: Arc::clone(self),
            engine: engine.clone(),
            key: key.clone(),
            reference: service.image.clone(),
            target,
            login,
        };
        let handle = tokio::spawn(task.run()).abort_handle();
        pulls.insert(
            key,
            Pull {
                reference: service.image.clone(),
                state: first.clone(),
                task: handle,
            },
        );
        first
    }

    fn set(&self, key: &(LeaseId, String), state: ImageState) {
        if let Some(pull) = lock(&self.pulls).get_mut(key) {
            pull.state = state;
        }
    }
}

struct PullTask {
    puller: Arc<Puller>,
    engine: bollard::Docker,
    key: (LeaseId, String),
    reference: String,
    target: ImageReference,
    login: Option<DockerCredentials>,
}

/// Why an attempt ended.
enum Failure {
    /// Another one may do better.
    Passing(String),
    /// It brought next to nothing while others waited for its turn.
    Yielded,
    /// No other one will.
    Final(String),
}

impl PullTask {
    async fn run(self) {
        let state = match self.pull().await {
            Ok(image) => {
                tracing::info!(lease = %self.key.0, service = self.key.1, image = %self.target, "image is here");
                ImageState::Ready(image)
            }
            Err(reason) => {
                tracing::warn!(lease = %self.key.0, service = self.key.1, image = %self.target, %reason, "image cannot be had");
                ImageState::Failed(reason)
            }
        };
        self.puller.set(&self.key, state);
        self.puller.wake.notify_one();
    }

    async fn pull(&self) -> Result<ResolvedImage, String> {
        let settings = self.puller.settings;
        let mut spent = Duration::ZERO;
        let mut pause = settings.first_pause;
        let mut yields = 0;
        let mut progress = Progress::default();
        loop {
            progress.attempt += 1;
            let turn = self.puller.turns.take(self.key.0, yields).await;
            let begun = Instant::now();
            let left = settings.deadline.saturating_sub(spent);
            let outcome = tokio::time::timeout(left, self.attempt(&turn, progress.clone())).await;
            drop(turn);
            spent += begun.elapsed();
            let (failure, wait) = match outcome {
                Ok(Ok(image)) => return Ok(image),
                Ok(Err(Failure::Final(reason))) => return Err(reason),
                Ok(Err(Failure::Passing(reason))) => (reason, pause),
                Ok(Err(Failure::Yielded)) => {
                    yields += 1;
                    tracing::info!(lease = %self.key.0, service = self.key.1, image = %self.target, "a slow pull gives its turn to others");
                    // No pause: it stands behind the others already.
                    (self.slowness(), Duration::ZERO)
                }
                Err(_) => ("it took too long".to_owned(), pause),
            };
            if spent + wait >= settings.deadline {
                return Err(format!(
                    "the image `{}` could not be pulled within {} seconds; the last attempt said: {failure}",
                    self.reference,
                    settings.deadline.as_secs()
                ));
            }
            progress.last_error = Some(failure);
            self.puller.set(&self.key, ImageState::Pulling(progress.clone()));
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                spent += wait;
                pause = (pause * 2).min(settings.longest_pause);
            }
        }
    }

    fn slowness(&self) -> String {
        let settings = self.puller.settings;
        format!(
            "its registry sent less than {} KiB per second for {} seconds, while other leases waited; it is pulled again after them",
            settings.least_bytes_per_second >> 10,
            settings.slow_after.as_secs()
        )
    }

    async fn attempt(&self, turn: &Turn, mut progress: Progress) -> Result<ResolvedImage, Failure> {
        let settings = self.puller.settings;
        let options = CreateImageOptionsBuilder::new()
            .from_image(&self.target.full_name())
            .tag(self.target.version())
            .build();
        // Dropping it ends the request, and with it the engine's downloads that nobody else waits for.
        let mut events = std::pin::pin!(self.engine.create_image(Some(options), None, self.login.clone()));
        let mut layers = Layers::default();
        let mut meter = Meter::new(settings.slow_after, settings.least_bytes_per_second, Instant::now());
        let mut heard = Instant::now();
        let mut looks = tokio::time::interval((settings.slow_after / 4).clamp(SHORTEST_LOOK, LONGEST_LOOK));
        loop {
            tokio::select! {
                event = events.next() => match event {
                    None => break,
                    Some(Err(error)) => return Err(self.classify(&error)),
                    Some(Ok(event)) => {
                        heard = Instant::now();
                        layers.count(event);
                        progress.received_bytes = layers.received();
                        progress.total_bytes = layers.total();
                        self.puller.set(&self.key, ImageState::Pulling(progress.clone()));
                    }
                },
                _ = looks.tick() => {
                    let is_held_up = layers.are_held_up();
                    if turn.must_yield(meter.pace(&layers, Instant::now()), is_held_up) {
                        return Err(Failure::Yielded);
                    }
                    // The engine says nothing of a layer that waits for others' downloads.
                    if !is_held_up && heard.elapsed() >= settings.idle_deadline {
                        return Err(Failure::Passing("the registry sent nothing more".to_owned()));
                    }
                }
            }
        }
        self.pulled().await
    }

    async fn pulled(&self) -> Result<ResolvedImage, Failure> {
        let passing = |error: Error| Failure::Passing(error.to_string());
        let name = match &self.target.digest {
            Some(digest) => format!("{}@{digest}", self.target.full_name()),
            None => self.target.to_string(),
        };
        let found = inspect(&self.engine, &name)
            .await
            .map_err(passing)?
            .ok_or_else(|| Failure::Passing("the image vanished after the pull".to_owned()))?;
        let architecture = engine_architecture(&self.engine).await.map_err(passing)?;
        found.check(&architecture).map_err(Failure::Final)?;
        if self.login.is_some() {
            self.puller.private_images.add(&found.id);
        }
        Ok(found.resolved(&self.reference, &self.target))
    }

    fn classify(&self, error: &EngineError) -> Failure {
        let text = match error {
            EngineError::DockerResponseServerError { message, .. } => message.clone(),
            EngineError::DockerStreamError { error } => error.clone(),
            other => return Failure::Passing(other.to_string()),
        };
        classify(&self.reference, &self.target, self.login.is_some(), &text)
    }
}

/// What the engine says about a failed pull, sorted. Engines report registries' answers as text, whatever the status.
fn classify(reference: &str, target: &ImageReference, logged_in: bool, text: &str) -> Failure {
    let lower = text.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if says(&["toomanyrequests", "too many requests", "rate limit"]) {
        return Failure::Passing(text.to_owned());
    }
    if says(&["no matching manifest", "does not match the specified platform"]) {
        return Failure::Final(format!(
            "the image `{reference}` is not made for this machine's architecture; build it for this one too"
        ));
    }
    if says(&[
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
        "denied",
        "incorrect username or password",
        "401",
        "403 forbidden",
    ]) {
        let hint = if logged_in {
            "the registry refused the credentials, or the image does not exist there"
        } else {
            "the registry wants credentials for it (the manifest has none for this registry), or it does not exist"
        };
        return Failure::Final(format!(
            "the image `{reference}` cannot be pulled from {}: {hint}",
            target.registry
        ));
    }
    if says(&[
        "manifest unknown",
        "name unknown",
        "repository name not known",
        "not found",
    ]) && !says(&["host not found", "server not found"])
    {
        return Failure::Final(format!("the image `{reference}` does not exist at {}", target.registry));
    }
    if says(&["invalid reference format"]) {
        return Failure::Final(format!("`{reference}` is not an image reference"));
    }
    Failure::Passing(text.to_owned())
}

fn login(credentials: &Credentials) -> DockerCredentials {
    DockerCredentials {
        username: Some(credentials.username.clone()),
        password: Some(credentials.password.expose().to_owned()),
        serveraddress: Some(credentials.registry.clone()),
        ..DockerCredentials::default()
    }
}

fn lock(pulls: &Pulls) -> std::sync::MutexGuard<'_, HashMap<(LeaseId, String), Pull>> {
    pulls.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(text: &str) -> &'static str {
        let target: ImageReference = "ghcr.io/org/app:1".parse().unwrap();
        match classify("ghcr.io/org/app:1", &target, false, text) {
            Failure::Passing(_) | Failure::Yielded => "passing",
            Failure::Final(reason) if reason.contains("architecture") => "architecture",
            Failure::Final(reason) if reason.contains("credentials") => "credentials",
            Failure::Final(_) => "missing",
        }
    }

    #[test]
    fn what_engines_say_is_sorted() {
        for (text, expected) in [
            (
                "manifest for ghcr.io/org/app:1 not found: manifest unknown: manifest unknown",
                "missing",
            ),
            (
                "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                "credentials",
            ),
            (
                "Get \"http://127.0.0.1:5000/v2/app/manifests/1\": no basic auth credentials",
                "credentials",
            ),
            ("unauthorized: authentication required", "credentials"),
            (
                "no matching manifest for linux/amd64 in the manifest list entries",
                "architecture",
            ),
            (
                "Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io: no such host",
                "passing",
            ),
            (
                "Get \"https://ghcr.io/v2/\": net/http: TLS handshake timeout",
                "passing",
            ),
            (
                "toomanyrequests: You have reached your pull rate limit. denied",
                "passing",
            ),
            ("received unexpected HTTP status: 503 Service Unavailable", "passing"),
        ] {
            assert_eq!(sorted(text), expected, "{text}");
        }
    }
}
