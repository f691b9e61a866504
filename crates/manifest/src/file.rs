//! A deployment file as a whole: its sections put together, and what must hold between them.

use std::collections::{BTreeMap, BTreeSet};

use crate::canonical::{MAXIMUM_MANIFEST_BYTES, canonical_json};
use crate::compute::ComputeSection;
use crate::decimal::Decimal;
use crate::decode::{Decoder, Value, nearest};
use crate::model::{Manifest, Mode, Requirements, Resources, Service};
use crate::order::totals;
use crate::profiles::{self, PlacementSection, PriceSection, ProfilesSection};
use crate::report::{Position, Report, Warning, quoted};
use crate::services::{self, ServiceSection};
use crate::syntax;
use crate::tree::{self, MAXIMUM_FILE_BYTES};

/// The most containers of one service.
pub const MAXIMUM_COUNT: u32 = 1_000;

/// A file that passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// What is sent to the provider, and what the order is derived from.
    pub manifest: Manifest,
    /// What is accepted but may not be what was meant, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// Reads a deployment file.
///
/// `file` is the name that messages carry; `bytes` its content. Time and memory are bounded whatever the content is.
///
/// # Errors
/// Everything that is wrong with the file, in one report.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Deployment, Report> {
    let start = Position { line: 1, column: 1 };
    if bytes.len() > MAXIMUM_FILE_BYTES {
        let expected = format!("a deployment file of at most {MAXIMUM_FILE_BYTES} bytes");
        return Err(Report::of_one(file, start, format!("{} bytes", bytes.len()), expected));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let place = place_of_byte(bytes, error.valid_up_to());
        Report::of_one(file, place, "bytes that are not UTF-8", "UTF-8 text")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut decoder = Decoder::new(text);
    let manifest = match tree::read(text) {
        Ok(root) => read_file(&mut decoder, &Value::root(&root)),
        Err(error) => {
            decoder.tree_problem(error);
            None
        }
    };
    if let Some(manifest) = &manifest {
        let length = canonical_json(manifest).len();
        if length > MAXIMUM_MANIFEST_BYTES {
            let expected = format!("a manifest of at most {MAXIMUM_MANIFEST_BYTES} bytes");
            decoder.problem(
                start,
                "",
                format!("a file that becomes a manifest of {length} bytes"),
                expected,
                None,
            );
        }
    }
    let warnings = decoder.finish(file)?;
    match manifest {
        Some(manifest) => Ok(Deployment { manifest, warnings }),
        None => Err(Report::of_one(
            file,
            start,
            "a file that could not be read",
            "a deployment file",
        )),
    }
}

fn place_of_byte(bytes: &[u8], at: usize) -> Position {
    let before = &bytes[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Position {
        line: number(line),
        column: number(column),
    }
}

fn read_file(decoder: &mut Decoder<'_>, root: &Value<'_>) -> Option<Manifest> {
    let mut keys = root.mapping(decoder, "a mapping with version, services, profiles and deployment")?;
    let version = keys.required(decoder, "version", "\"1.0\"");
    version.and_then(|value| {
        let version = value.text(decoder, "\"1.0\"")?;
        if version != "1.0" {
            value.refuse(decoder, "\"1.0\"");
        }
        Some(())
    });
    let services = keys.required(decoder, "services", "what runs, a mapping by name");
    let services = services.and_then(|value| Some((services::read(decoder, &value)?, value)));
    let profiles = keys.required(decoder, "profiles", "how much, where, how long and at what price");
    let profiles = profiles.and_then(|value| profiles::read(decoder, &value));
    let deployment = keys.required(decoder, "deployment", "which service uses which profile and placement");
    let deployment = deployment.and_then(|value| read_deployment(decoder, &value));
    keys.unsupported(decoder, "endpoints", "leased IP addresses do not exist here");
    keys.unsupported(decoder, "include", "files are not included; write one file");
    keys.finish(decoder);
    let (services, services_value) = services?;
    let names = services_value
        .named(decoder, "a mapping")?
        .into_iter()
        .map(|(name, ..)| name)
        .collect();
    Assembly {
        services,
        service_names: names,
        profiles: profiles?,
        deployed: deployment?,
    }
    .assemble(decoder)
}

/// One entry of `deployment`.
struct Deployed<'t> {
    service: &'t str,
    position: Position,
    path: String,
    placement: &'t str,
    placement_position: Position,
    profile: &'t str,
    profile_position: Position,
    profile_path: String,
    count: u32,
}

fn read_deployment<'t>(decoder: &mut Decoder<'_>, section: &Value<'t>) -> Option<Vec<Deployed<'t>>> {
    let entries = section.named(decoder, "a mapping of services by name")?;
    if entries.is_empty() {
        decoder.problem(
            section.position(),
            &section.path,
            "no service",
            "at least one service",
            None,
        );
        return None;
    }
    let mut deployed = Vec::with_capacity(entries.len());
    for (service, position, value) in &entries {
        deployed.extend(read_deployed(decoder, service, *position, value));
    }
    (deployed.len() == entries.len()).then_some(deployed)
}

fn read_deployed<'t>(
    decoder: &mut Decoder<'_>,
    service: &'t str,
    position: Position,
    value: &Value<'t>,
) -> Option<Deployed<'t>> {
    let placements = value.named(decoder, "a mapping with the placement's name")?;
    let [(placement, placement_position, inner)] = placements.as_slice() else {
        let expected = "one placement: one file is one order at one provider";
        let found = format!("{} placements", placements.len());
        decoder.problem(value.position(), &value.path, found, expected, None);
        return None;
    };
    let mut keys = inner.mapping(decoder, "a mapping with `profile` and `count`")?;
    let profile = keys.required(decoder, "profile", "the compute profile's name");
    let profile = profile.and_then(|value| {
        let name = value.text(decoder, "the compute profile's name")?;
        Some((name, value.position(), value.path.clone()))
    });
    let count = keys.required(decoder, "count", "how many containers, for example 1");
    let count = count.and_then(|value| {
        value.parse(decoder, "a number of containers", |text| {
            syntax::count(text, 1, MAXIMUM_COUNT)
        })
    });
    keys.finish(decoder);
    let (profile, profile_position, profile_path) = profile?;
    Some(Deployed {
        service,
        position,
        path: value.path.clone(),
        placement,
        placement_position: *placement_position,
        profile,
        profile_position,
        profile_path,
        count: count?,
    })
}

/// The sections of one file, each valid by itself.
struct Assembly<'t> {
    services: Vec<ServiceSection<'t>>,
    /// Names of services, those with problems too.
    service_names: Vec<&'t str>,
    profiles: ProfilesSection<'t>,
    deployed: Vec<Deployed<'t>>,
}

impl<'t> Assembly<'t> {
    fn assemble(self, decoder: &mut Decoder<'_>) -> Option<Manifest> {
        self.check_references(decoder);
        let placement = self.placement(decoder);
        self.check_gpus(decoder);
        self.warn_unused(decoder);
        let placement = placement?;
        let token = self.token(decoder, placement);
        let mut services = BTreeMap::new();
        for deployed in &self.deployed {
            services.extend(self.service(decoder, deployed, placement));
        }
        if decoder.has_problems() || services.len() != self.deployed.len() {
            return None;
        }
        let requirements = Requirements {
            mode: self.profiles.mode?,
            duration_seconds: self.profiles.duration_seconds?,
            tiers: self.profiles.tiers.clone()?,
            token: token?,
            placement: placement.placement.clone(),
        };
        let manifest = Manifest {
            name: self.profiles.name.clone(),
            requirements,
            services,
        };
        self.check_totals(decoder, &manifest, placement);
        Some(manifest)
    }

    /// Names that nothing answers to.
    fn check_references(&self, decoder: &mut Decoder<'_>) {
        for deployed in &self.deployed {
            if !self.service_names.contains(&deployed.service) {
                let expected = format!("a service of this file: {}", self.service_names.join(", "));
                let hint = nearest(deployed.service, &self.service_names).map(|near| format!("did you mean `{near}`?"));
                decoder.problem(
                    deployed.position,
                    &deployed.path,
                    quoted(deployed.service),
                    expected,
                    hint,
                );
            }
            let known = &self.profiles.compute_names;
            if !known.contains(&deployed.profile) {
                let expected = format!("a profile of profiles.compute: {}", known.join(", "));
                let hint = nearest(deployed.profile, known).map(|near| format!("did you mean `{near}`?"));
                decoder.problem(
                    deployed.profile_position,
                    &deployed.profile_path,
                    quoted(deployed.profile),
                    expected,
                    hint,
                );
            }
        }
        for service in &self.services {
            for (granted, value) in &service.grants {
                if !self.service_names.contains(&granted.as_str()) {
                    let expected = format!("a service of this file: {}", self.service_names.join(", "));
                    value.refuse(decoder, expected);
                }
            }
        }
    }

    /// The one placement that every service names.
    fn placement(&self, decoder: &mut Decoder<'_>) -> Option<&PlacementSection<'t>> {
        let first = self.deployed.first()?;
        for deployed in &self.deployed[1..] {
            if deployed.placement != first.placement {
                let expected = format!(
                    "the placement {}: one file is one order at one provider",
                    quoted(first.placement)
                );
                let found = quoted(deployed.placement);
                decoder.problem(deployed.placement_position, &deployed.path, found, expected, None);
                return None;
            }
        }
        let known = &self.profiles.placement_names;
        if !known.contains(&first.placement) {
            let expected = format!("a placement of profiles.placement: {}", known.join(", "));
            let hint = nearest(first.placement, known).map(|near| format!("did you mean `{near}`?"));
            decoder.problem(
                first.placement_position,
                &first.path,
                quoted(first.placement),
                expected,
                hint,
            );
        }
        self.profiles
            .placements
            .iter()
            .find(|placement| placement.name == first.placement)
    }

    /// The token of every price in use.
    fn token(&self, decoder: &mut Decoder<'_>, placement: &PlacementSection<'t>) -> Option<String> {
        let mut first: Option<&PriceSection> = None;
        for price in self
            .deployed
            .iter()
            .filter_map(|deployed| placement.pricing.get(deployed.profile))
        {
            let token = &first.get_or_insert(price).token;
            if *token != price.token {
                let expected = format!("{}, as elsewhere: one order is paid in one token", quoted(token));
                decoder.problem(price.position, &price.path, quoted(&price.token), expected, None);
                return None;
            }
        }
        first.map(|price| price.token.clone())
    }

    /// One GPU requirement per order.
    fn check_gpus(&self, decoder: &mut Decoder<'_>) {
        let mut first: Option<(&ComputeSection<'t>, &Deployed<'t>)> = None;
        for deployed in &self.deployed {
            let Some(compute) = self.compute(deployed.profile) else {
                continue;
            };
            let Some(gpu) = &compute.resources.gpu else { continue };
            let Some((other, other_deployed)) = first else {
                first = Some((compute, deployed));
                continue;
            };
            if other
                .resources
                .gpu
                .as_ref()
                .is_some_and(|other| other.accept != gpu.accept)
            {
                let (position, path) = compute
                    .gpu_place
                    .clone()
                    .unwrap_or((compute.position, compute.path.clone()));
                let found = format!(
                    "other GPUs for `{}` than for `{}`",
                    deployed.service, other_deployed.service
                );
                let expected = "the same kinds of GPU for every service: an order has one GPU requirement";
                decoder.problem(position, &path, found, expected, None);
                return;
            }
        }
    }

    fn compute(&self, name: &str) -> Option<&ComputeSection<'t>> {
        self.profiles.compute.iter().find(|compute| compute.name == name)
    }

    fn warn_unused(&self, decoder: &mut Decoder<'_>) {
        let deployed: BTreeSet<&str> = self.deployed.iter().map(|deployed| deployed.service).collect();
        for service in self.services.iter().filter(|service| !deployed.contains(service.name)) {
            decoder.warn_at(service.position, &service.path, "not in `deployment`: it will not run");
        }
        let profiles: BTreeSet<&str> = self.deployed.iter().map(|deployed| deployed.profile).collect();
        for compute in self
            .profiles
            .compute
            .iter()
            .filter(|compute| !profiles.contains(compute.name))
        {
            decoder.warn_at(
                compute.position,
                &compute.path,
                "no service of `deployment` uses this profile",
            );
        }
    }

    fn service(
        &self,
        decoder: &mut Decoder<'_>,
        deployed: &Deployed<'t>,
        placement: &PlacementSection<'t>,
    ) -> Option<(String, Service)> {
        let price = self.price(decoder, deployed, placement);
        let section = self.services.iter().find(|service| service.name == deployed.service)?;
        let compute = self.compute(deployed.profile)?;
        let resources = mount_volumes(decoder, section, compute, deployed.profile);
        let runs = |name: &String| self.deployed.iter().any(|deployed| deployed.service == name);
        let mut expose = section.expose.clone();
        for port in &mut expose {
            port.services.retain(runs);
        }
        if self.profiles.mode == Some(Mode::Fizz) {
            warn_of_website_ports(decoder, section);
        }
        let service = Service {
            image: section.image.clone(),
            pull_policy: section.pull_policy,
            credentials: section.credentials.clone(),
            command: section.command.clone(),
            args: section.args.clone(),
            env: section.env.clone(),
            expose,
            count: deployed.count,
            profile: deployed.profile.to_owned(),
            resources: resources?,
            hourly_price: price?,
        };
        Some((deployed.service.to_owned(), service))
    }

    fn price(
        &self,
        decoder: &mut Decoder<'_>,
        deployed: &Deployed<'t>,
        placement: &PlacementSection<'t>,
    ) -> Option<Decimal> {
        let price = placement.pricing.get(deployed.profile);
        if price.is_none() && self.profiles.compute_names.contains(&deployed.profile) {
            let found = format!("no price for the profile `{}`", deployed.profile);
            let hint =
                (placement.pricing.contains_key(deployed.service) && deployed.profile != deployed.service).then(|| {
                    format!(
                        "prices go by profile: rename `{}` to `{}`",
                        deployed.service, deployed.profile
                    )
                });
            let expected = format!("`{}: {{token: ..., amount: ...}}`", deployed.profile);
            decoder.problem(
                placement.pricing_position,
                &placement.pricing_path,
                found,
                expected,
                hint,
            );
        }
        price.map(|price| price.amount)
    }

    /// What only shows when everything is added up.
    fn check_totals(&self, decoder: &mut Decoder<'_>, manifest: &Manifest, placement: &PlacementSection<'t>) {
        if manifest.services.values().all(|service| service.hourly_price.is_zero()) {
            let expected = "at least one amount above 0";
            decoder.problem(
                placement.pricing_position,
                &placement.pricing_path,
                "a price of 0",
                expected,
                None,
            );
        }
        if let (Err(error), Some((position, path))) = (totals(manifest), &self.profiles.compute_position) {
            decoder.problem(*position, path, error.found(), error.expected(), None);
        }
    }
}

fn warn_of_website_ports(decoder: &mut Decoder<'_>, section: &ServiceSection<'_>) {
    for port in section
        .expose
        .iter()
        .filter(|port| matches!(port.external_port.unwrap_or(port.port), 80 | 443))
    {
        let message = format!(
            "port {}: fizz nodes do not serve 80 and 443; another port will be given",
            port.port
        );
        decoder.warn_at(section.position, &section.path, message);
    }
}

/// Joins the profile's storage with where the service mounts it.
fn mount_volumes(
    decoder: &mut Decoder<'_>,
    section: &ServiceSection<'_>,
    compute: &ComputeSection<'_>,
    profile: &str,
) -> Option<Resources> {
    let mut resources = compute.resources.clone();
    let mut paths = BTreeSet::new();
    let mut complete = true;
    for mount in &section.mounts {
        let names: Vec<&str> = compute
            .resources
            .volumes
            .iter()
            .map(|volume| volume.name.as_str())
            .collect();
        let Some(volume) = resources.volumes.iter_mut().find(|volume| volume.name == mount.name) else {
            let known = if names.is_empty() {
                "it has none".to_owned()
            } else {
                names.join(", ")
            };
            let expected = format!("a named storage of the profile `{profile}`: {known}");
            let hint = nearest(mount.name, &names).map(|near| format!("did you mean `{near}`?"));
            decoder.problem(mount.position, &mount.path, quoted(mount.name), expected, hint);
            complete = false;
            continue;
        };
        let Some(place) = &mount.mount else { continue };
        if !paths.insert(place.path.trim_end_matches('/').to_owned()) {
            let found = format!("{} again", quoted(&place.path));
            decoder.problem(
                mount.position,
                &mount.path,
                found,
                "each storage at a place of its own",
                None,
            );
            complete = false;
        }
        volume.mount = Some(place.clone());
    }
    for volume in resources.volumes.iter().filter(|volume| volume.mount.is_none()) {
        let message = format!(
            "the storage `{}` is paid for but mounted nowhere by `{}`",
            volume.name, section.name
        );
        decoder.warn_at(compute.position, &compute.path, message);
    }
    complete.then_some(resources)
}
