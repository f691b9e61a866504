//! The engine's events, as a wake-up only: what happened is read from the engine's state.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::query_parameters::EventsOptionsBuilder;
use futures::StreamExt;
use tokio::sync::Notify;

use super::client::Client;
use super::labels;
use crate::model::Scope;

/// The pause after the engine went away; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Wakes whoever waits when a container of the scope starts, ends or goes, and when the engine comes back. Never ends.
pub(super) async fn watch(client: Arc<Client>, scope: Scope, wake: Arc<Notify>, probed: Arc<AtomicBool>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok(engine) = client.engine().await
            && engine.ping().await.is_ok()
        {
            // The engine is there (again): look at everything.
            wake.notify_one();
            pause = FIRST_PAUSE;
            follow(engine, &scope, &wake).await;
        }
        // It may come back with other settings.
        probed.store(false, Ordering::Release);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn follow(engine: &bollard::Docker, scope: &Scope, wake: &Notify) {
    let mut filters: HashMap<String, Vec<String>> = labels::filter(scope);
    filters.insert("type".to_owned(), vec!["container".to_owned()]);
    filters.insert(
        "event".to_owned(),
        ["start", "die", "oom", "stop", "destroy"].map(str::to_owned).to_vec(),
    );
    let options = EventsOptionsBuilder::new().filters(&filters).build();
    let mut events = std::pin::pin!(engine.events(Some(options)));
    while let Some(Ok(_)) = events.next().await {
        wake.notify_one();
    }
}
