//! `spheron check`: what a deployment file asks for, without a chain; with one, what it costs there.

use std::path::Path;

use alloy::primitives::U256;
use avs::words::{CPU_UNIT_MILLIS, MEMORY_UNIT_BYTES, STORAGE_UNIT_BYTES};
use daemon::causes::with_causes;
use gateway::wire::LARGEST_MANIFEST_BYTES;
use manifest::{Deployment, Manifest, Mode, SaltedManifest, canonical_json, content_hash, hourly_total};
use serde_json::{Value, json};

use super::deploy::{note_warnings, quote, read_file};
use crate::amounts;
use crate::arguments::Arguments;
use crate::chain::read;
use crate::failure::Failure;
use crate::output::{Output, facts};
use crate::session::{Session, devnet_file};

pub(super) async fn run(arguments: &Arguments, output: &Output, file: &Path) -> eyre::Result<()> {
    let Deployment { manifest, warnings } = read_file(file)?;
    let name = file.display().to_string();
    note_warnings(output, &name, &warnings);
    let size = canonical_json(&manifest).len();
    if size > manifest::MAXIMUM_MANIFEST_BYTES.min(LARGEST_MANIFEST_BYTES) {
        let most = manifest::MAXIMUM_MANIFEST_BYTES.min(LARGEST_MANIFEST_BYTES);
        return Err(Failure::bad_input(format!(
            "{name}: the manifest has {size} bytes, no provider takes more than {most}"
        ))
        .into());
    }
    let salted = SaltedManifest {
        // The hash with a salt is made when ordering; terms and price do not depend on it.
        salt: Default::default(),
        manifest,
    };
    let (mut value, text) = match on_network(arguments, output, &name, &salted).await? {
        Some(priced) => priced,
        None => (terms_json(&salted.manifest), terms_text(&salted.manifest)),
    };
    value["file"] = json!(name);
    value["warnings"] = serde_json::to_value(&warnings)?;
    output.result(&value, &text);
    Ok(())
}

/// The price on the network that is named, or on the devnet where one runs. A devnet that nobody named, and that went away or
/// has no such GPU, is no reason to refuse a file.
async fn on_network(
    arguments: &Arguments,
    output: &Output,
    name: &str,
    salted: &SaltedManifest,
) -> eyre::Result<Option<(Value, String)>> {
    let named = arguments.network.is_some();
    if !named && !devnet_file().is_ok_and(|path| path.exists()) {
        return Ok(None);
    }
    let priced = async {
        let session = Session::open(arguments, output)?;
        let book = session.order_book();
        let (catalog, parameters) = tokio::try_join!(session.catalog(Some(&salted.manifest)), read(book.parameters()))?;
        let request = manifest::derive(salted, &catalog, parameters.paramsVersion)
            .map_err(|error| Failure::bad_input(format!("{name}: {}", with_causes(&error))))?;
        let priced = quote(&session, &request).await?;
        eyre::Ok((priced.json(&request, salted), priced.text(&request, salted)))
    };
    match priced.await {
        Ok(priced) => Ok(Some(priced)),
        Err(error) if named => Err(error),
        Err(error) => {
            output.note(format!("without the price on the devnet that runs: {error:#}"));
            Ok(None)
        }
    }
}

/// What a manifest asks for, without a network.
pub(super) fn terms_json(manifest: &Manifest) -> Value {
    let requirements = &manifest.requirements;
    let placement = &requirements.placement;
    let mode = match requirements.mode {
        Mode::Provider => "provider",
        Mode::Fizz => "fizz",
    };
    let mut value = json!({
        "name": manifest.name,
        "content_hash": content_hash(manifest),
        "mode": mode,
        "duration_seconds": requirements.duration_seconds,
        "tiers": requirements.tiers,
        "token": {"symbol": requirements.token},
        "maximum_hourly": hourly_total(manifest),
        "placement": placement,
        "resources": resources_json(manifest),
        "services": manifest.services.iter().map(|(name, service)| service_json(name, service)).collect::<Vec<_>>(),
    });
    if let Some(gpu) = manifest
        .services
        .values()
        .find_map(|service| service.resources.gpu.as_ref())
    {
        value["gpu_models"] = json!(gpu.accept);
    }
    value
}

fn service_json(name: &str, service: &manifest::Service) -> Value {
    // Neither environment nor credentials: they are secrets.
    let expose: Vec<Value> = service
        .expose
        .iter()
        .map(|expose| json!({"port": expose.port, "as": expose.external_port, "protocol": expose.protocol, "global": expose.global}))
        .collect();
    json!({
        "name": name,
        "image": service.image,
        "count": service.count,
        "hourly_price": service.hourly_price,
        "resources": service.resources,
        "expose": expose,
    })
}

/// Sums over all services, in the market's units and in people's.
fn resources_json(manifest: &Manifest) -> Value {
    match manifest::totals(manifest) {
        Ok(totals) => json!({
            "cpu": amounts::whole(U256::from(u64::from(totals.cpu) * CPU_UNIT_MILLIS), 3),
            "memory_mib": u64::from(totals.memory) * (MEMORY_UNIT_BYTES >> 20),
            "storage_mib": u64::from(totals.storage) * (STORAGE_UNIT_BYTES >> 20),
            "gpus": totals.gpu_count,
            "units": totals,
        }),
        // A parsed file has sums that fit; the parser says so otherwise.
        Err(_) => Value::Null,
    }
}

/// [`terms_json`] for people.
fn terms_text(manifest: &Manifest) -> String {
    facts(&terms_facts(manifest))
}

/// [`terms_json`] as names and values.
pub(super) fn terms_facts(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let requirements = &manifest.requirements;
    let resources = resources_json(manifest);
    let services: Vec<String> = manifest
        .services
        .iter()
        .map(|(name, service)| format!("{} x {name} ({})", service.count, service.image))
        .collect();
    let tiers: Vec<String> = requirements.tiers.iter().map(ToString::to_string).collect();
    let regions = |regions: &std::collections::BTreeSet<String>| regions.iter().cloned().collect::<Vec<_>>().join(", ");
    let placement = &requirements.placement;
    let mut region = match regions(&placement.regions) {
        any if any.is_empty() => "any".to_owned(),
        some => some,
    };
    if !placement.excluded_regions.is_empty() {
        region.push_str(&format!(", not {}", regions(&placement.excluded_regions)));
    }
    vec![
        ("services", services.join(", ")),
        (
            "resources",
            format!(
                "{} CPU, {} MiB memory, {} MiB storage, {} GPU",
                resources["cpu"].as_str().unwrap_or("?"),
                resources["memory_mib"],
                resources["storage_mib"],
                resources["gpus"]
            ),
        ),
        ("mode", requirements.mode.to_string()),
        ("regions", region),
        ("trust tiers", tiers.join(", ")),
        ("duration", amounts::time(requirements.duration_seconds)),
        (
            "maximum price",
            format!("{} {}/h", hourly_total(manifest), requirements.token),
        ),
        // Without the salt, which keeps guessable secrets from being found by trying: not for publishing.
        (
            "content hash",
            format!(
                "{} (unsalted: not what goes on chain; keep it to yourself)",
                content_hash(manifest)
            ),
        ),
    ]
}
