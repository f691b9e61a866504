//! What holds for every manifest that was read from a file, checked again for one that came over the network.

use std::collections::BTreeSet;

use crate::compute::{MAXIMUM_GPU_KINDS, MAXIMUM_GPUS, MAXIMUM_VOLUMES, MINIMUM_MEMORY_BYTES};
use crate::decode::Refusal;
use crate::file::MAXIMUM_COUNT;
use crate::model::{Gpu, Manifest, Mode, Requirements, Resources, Service};
use crate::order::totals;
use crate::services::{MAXIMUM_PORTS, MAXIMUM_SERVICES};
use crate::syntax;

/// A value that no deployment file produces. The value itself is not repeated: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: expected {expected}")]
pub struct InvalidManifest {
    /// The way to the value.
    pub path: String,
    /// What may stand there.
    pub expected: String,
}

/// Checks that a manifest could have come from a deployment file.
///
/// # Errors
/// The first value that could not.
pub fn validate(manifest: &Manifest) -> Result<(), InvalidManifest> {
    if let Some(name) = &manifest.name {
        text("name", syntax::caption(name))?;
    }
    requirements(&manifest.requirements)?;
    let services = &manifest.services;
    require((1..=MAXIMUM_SERVICES).contains(&services.len()), "services", || {
        format!("1 to {MAXIMUM_SERVICES} services")
    })?;
    let mut accepted_gpus = None;
    for (name, service) in services {
        let path = format!("services.{name}");
        text(&path, syntax::label(name))?;
        self::service(&path, service, manifest)?;
        if let Some(gpu) = &service.resources.gpu {
            let first = accepted_gpus.get_or_insert(&gpu.accept);
            require(**first == gpu.accept, &path, || {
                "the same kinds of GPU for every service".to_owned()
            })?;
        }
    }
    require(
        services.values().any(|service| !service.hourly_price.is_zero()),
        "services",
        || "a price above 0".to_owned(),
    )?;
    totals(manifest).map(drop).map_err(|error| InvalidManifest {
        path: "services".to_owned(),
        expected: error.expected(),
    })
}

fn require(holds: bool, path: &str, expected: impl FnOnce() -> String) -> Result<(), InvalidManifest> {
    if holds {
        Ok(())
    } else {
        Err(InvalidManifest {
            path: path.to_owned(),
            expected: expected(),
        })
    }
}

fn text(path: &str, accepted: Result<(), Refusal>) -> Result<(), InvalidManifest> {
    accepted.map_err(|refusal| InvalidManifest {
        path: path.to_owned(),
        expected: refusal.expected.unwrap_or_else(|| "another value".to_owned()),
    })
}

fn requirements(requirements: &Requirements) -> Result<(), InvalidManifest> {
    let duration = requirements.duration_seconds;
    require(
        (1..=syntax::MAXIMUM_DURATION_SECONDS).contains(&duration),
        "requirements.duration_seconds",
        || format!("1 to {} seconds", syntax::MAXIMUM_DURATION_SECONDS),
    )?;
    let tiers = &requirements.tiers;
    require(
        !tiers.is_empty() && tiers.iter().all(|tier| (1..=7).contains(tier)),
        "requirements.tiers",
        || "tiers from 1 to 7".to_owned(),
    )?;
    text("requirements.token", syntax::token(&requirements.token))?;
    let placement = &requirements.placement;
    text("requirements.placement.label", syntax::caption(&placement.label))?;
    for region in placement.regions.iter().chain(&placement.excluded_regions) {
        text("requirements.placement.regions", syntax::identifier(region))?;
        require(
            *region == region.to_ascii_lowercase(),
            "requirements.placement.regions",
            || "lower case".to_owned(),
        )?;
    }
    let no_overlap = placement.regions.is_disjoint(&placement.excluded_regions)
        && placement.providers.is_disjoint(&placement.excluded_providers)
        && placement.fizz_nodes.is_disjoint(&placement.excluded_fizz_nodes);
    require(no_overlap, "requirements.placement", || {
        "nothing both asked for and excluded".to_owned()
    })?;
    let names_fizz = !placement.fizz_nodes.is_empty() || !placement.excluded_fizz_nodes.is_empty();
    require(
        requirements.mode == Mode::Fizz || !names_fizz,
        "requirements.placement",
        || "no fizz nodes in mode provider".to_owned(),
    )
}

fn service(path: &str, service: &Service, manifest: &Manifest) -> Result<(), InvalidManifest> {
    text(&format!("{path}.image"), syntax::image(&service.image))?;
    text(&format!("{path}.profile"), syntax::label(&service.profile))?;
    for argument in service.command.iter().chain(&service.args) {
        text(&format!("{path}.command"), syntax::process_text(argument))?;
    }
    if let Some(credentials) = &service.credentials {
        let path = format!("{path}.credentials");
        text(&path, syntax::registry(&credentials.registry))?;
        let complete = !credentials.username.is_empty() && !credentials.password.expose().is_empty();
        require(complete, &path, || "a username and a password".to_owned())?;
    }
    let mut names = BTreeSet::new();
    for variable in &service.env {
        let path = format!("{path}.env");
        text(&path, syntax::environment_name(&variable.name))?;
        text(&path, syntax::process_text(variable.value.expose()))?;
        require(names.insert(&variable.name), &path, || "each variable once".to_owned())?;
    }
    require(
        (1..=MAXIMUM_COUNT).contains(&service.count),
        &format!("{path}.count"),
        || format!("1 to {MAXIMUM_COUNT} containers"),
    )?;
    ports(&format!("{path}.expose"), service, manifest)?;
    resources(&format!("{path}.resources"), &service.resources)
}

fn ports(path: &str, service: &Service, manifest: &Manifest) -> Result<(), InvalidManifest> {
    require(service.expose.len() <= MAXIMUM_PORTS, path, || {
        format!("at most {MAXIMUM_PORTS} ports")
    })?;
    let mut seen = BTreeSet::new();
    for expose in &service.expose {
        require(expose.port != 0 && expose.external_port != Some(0), path, || {
            "ports from 1 to 65535".to_owned()
        })?;
        require(seen.insert((expose.port, expose.protocol)), path, || {
            "each port and protocol once".to_owned()
        })?;
        for host in &expose.accept {
            text(path, syntax::host_name(host))?;
        }
        let known = expose.services.iter().all(|name| manifest.services.contains_key(name));
        require(known, path, || "services of this manifest".to_owned())?;
    }
    Ok(())
}

fn resources(path: &str, resources: &Resources) -> Result<(), InvalidManifest> {
    require(resources.milli_cpu > 0, path, || "some CPU".to_owned())?;
    require(resources.memory_bytes >= MINIMUM_MEMORY_BYTES, path, || {
        "at least 6 MiB of memory".to_owned()
    })?;
    require(resources.volumes.len() <= MAXIMUM_VOLUMES, path, || {
        format!("at most {MAXIMUM_VOLUMES} volumes")
    })?;
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for volume in &resources.volumes {
        text(path, syntax::label(&volume.name))?;
        require(volume.bytes > 0, path, || "volumes larger than nothing".to_owned())?;
        require(names.insert(&volume.name), path, || "each volume name once".to_owned())?;
        if let Some(mount) = &volume.mount {
            text(path, syntax::mount_path(&mount.path))?;
            let place = mount.path.trim_end_matches('/');
            require(places.insert(place), path, || {
                "each volume at a place of its own".to_owned()
            })?;
        }
    }
    resources.gpu.as_ref().map_or(Ok(()), |gpu| self::gpu(path, gpu))
}

fn gpu(path: &str, gpu: &Gpu) -> Result<(), InvalidManifest> {
    require((1..=MAXIMUM_GPUS).contains(&gpu.units), path, || {
        format!("1 to {MAXIMUM_GPUS} GPUs")
    })?;
    let sorted = gpu.accept.windows(2).all(|pair| pair[0] < pair[1]);
    require(sorted && gpu.accept.len() <= MAXIMUM_GPU_KINDS, path, || {
        format!("at most {MAXIMUM_GPU_KINDS} kinds of GPU, sorted, each once")
    })?;
    for kind in &gpu.accept {
        let names = [Some(&kind.vendor), kind.model.as_ref(), kind.interface.as_ref()];
        for name in names.into_iter().flatten() {
            text(path, syntax::identifier(name))?;
            require(*name == name.to_ascii_lowercase(), path, || {
                "GPU names in lower case".to_owned()
            })?;
        }
    }
    Ok(())
}
