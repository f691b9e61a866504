//! What a provider says of a lease, as text and as JSON.

use gateway::wire::{LeasePhase, LeaseStatus, ServiceState, ServiceStatus, TransportProtocol};
use serde_json::{Value, json};

use crate::output::plain;

/// Where the manifest is: `stored` or `missing` at the provider.
pub(crate) fn manifest_state(status: &LeaseStatus) -> &'static str {
    match (status.phase, status.manifest_hash) {
        (LeasePhase::AwaitingManifest | LeasePhase::ManifestMissing, _) | (_, None) => "missing",
        _ => "stored",
    }
}

/// Where a lease stands at its provider.
pub(crate) fn phase(phase: LeasePhase) -> &'static str {
    match phase {
        LeasePhase::AwaitingManifest => "awaiting manifest",
        LeasePhase::ManifestMissing => "manifest missing",
        LeasePhase::Deploying => "deploying",
        LeasePhase::Running => "running",
        LeasePhase::Degraded => "degraded",
        LeasePhase::Failed => "failed",
        LeasePhase::Closing => "closing",
        LeasePhase::Closed => "closed",
        LeasePhase::Unknown => "unknown",
    }
}

fn service_state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Pending => "pending",
        ServiceState::Pulling => "pulling",
        ServiceState::Starting => "starting",
        ServiceState::Running => "running",
        ServiceState::Degraded => "degraded",
        ServiceState::Failed => "failed",
        ServiceState::Stopped => "stopped",
        ServiceState::Unknown => "unknown",
    }
}

/// One line: the phase, and what is to be said of the services that do not run.
pub(crate) fn progress(status: &LeaseStatus) -> String {
    let mut text = phase(status.phase).to_owned();
    if let Some(reason) = &status.reason {
        text.push_str(&format!(" ({})", plain(reason)));
    }
    let waiting = status
        .services
        .iter()
        .filter(|service| service.state != ServiceState::Running);
    let services: Vec<String> = waiting
        .map(|service| {
            let state = service_state(service.state);
            match &service.message {
                Some(message) => format!("{} {state}: {}", plain(&service.name), plain(message)),
                None => format!("{} {state}", plain(&service.name)),
            }
        })
        .collect();
    if !services.is_empty() {
        text.push_str(": ");
        text.push_str(&services.join("; "));
    }
    text
}

/// The services as the command line's JSON has them.
pub(crate) fn services_json(status: &LeaseStatus) -> Value {
    status.services.iter().map(service_json).collect()
}

fn service_json(service: &ServiceStatus) -> Value {
    let urls: Vec<&str> = service
        .addresses
        .iter()
        .filter_map(|address| address.url.as_deref())
        .collect();
    let ports: Vec<Value> = service
        .addresses
        .iter()
        .map(|address| {
            let protocol = match address.protocol {
                TransportProtocol::Tcp => "tcp",
                TransportProtocol::Udp => "udp",
            };
            json!({
                "container_port": address.container_port,
                "protocol": protocol,
                "host": address.host,
                "port": address.port,
                "replica": address.replica,
            })
        })
        .collect();
    json!({
        "name": service.name,
        "state": service_state(service.state),
        "message": service.message,
        "image": service.image,
        "wanted": service.wanted,
        "running": service.running,
        "urls": urls,
        "ports": ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> LeaseStatus {
        serde_json::from_str(json).expect("a status")
    }

    #[test]
    fn a_status_is_shown_with_what_does_not_run() {
        let deploying = status(
            r#"{"lease":"1","phase":"deploying","observed_at":1,"manifest_hash":"0x1111111111111111111111111111111111111111111111111111111111111111","services":[
                {"name":"db","state":"running","image":"db:1","wanted":1,"running":1},
                {"name":"web","state":"pulling","message":"3 of \u001b[31m9 MiB","image":"web:1","wanted":1,"running":0}]}"#,
        );
        assert_eq!(progress(&deploying), "deploying: web pulling: 3 of  [31m9 MiB");
        assert_eq!(manifest_state(&deploying), "stored");
        let awaiting = status(r#"{"lease":"1","phase":"awaiting_manifest","observed_at":1}"#);
        assert_eq!(manifest_state(&awaiting), "missing");
        assert_eq!(progress(&awaiting), "awaiting manifest");
    }

    #[test]
    fn services_have_urls_and_ports() {
        let running = status(
            r#"{"lease":"1","phase":"running","observed_at":1,"services":[{"name":"web","state":"running","image":"web:1","wanted":1,
                "running":1,"addresses":[
                {"replica":0,"container_port":8080,"protocol":"tcp","host":"127.0.0.1","port":31000,"url":"http://127.0.0.1:31000"},
                {"replica":0,"container_port":22,"protocol":"tcp","host":"127.0.0.1","port":31001}]}]}"#,
        );
        let services = services_json(&running);
        assert_eq!(services[0]["urls"], json!(["http://127.0.0.1:31000"]));
        assert_eq!(services[0]["ports"][1]["port"], 31001);
    }
}
